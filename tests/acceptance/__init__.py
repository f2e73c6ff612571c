"""Tests of real server processes on Daphne and uvicorn, through sockets, HTTP, commands and signals. They may kill and
freeze processes, take the database or the bus away, and read the rows; they import none of the servers' code.
"""
