"""Tests of the pages and their scripts in a real browser against a real server process, which may change the server's
database and kill or freeze the server.
"""
