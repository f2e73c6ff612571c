"""Tests of single functions and classes with their neighbours replaced, and of documents against the code, which touch
the test database at most and start no server.
"""
