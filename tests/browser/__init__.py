"""Tests of the pages and their scripts in a real browser, against a real server process. They may read and change the
server's database, and kill or freeze the server.
"""
