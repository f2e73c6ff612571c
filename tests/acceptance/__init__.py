"""Tests of real server processes on Daphne and uvicorn, which may kill and freeze processes, take the database or the
bus away, and read and write rows, and which import none of the servers' code.
"""
