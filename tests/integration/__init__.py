"""Tests of several parts of the project in the tests' own process (views through Django's test client, locks, the hub,
agent turns), which use SQLite or a real PostgreSQL and may open a port on loopback.
"""
