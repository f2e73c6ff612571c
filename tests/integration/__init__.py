"""Tests of several of the project's parts together in the tests' own process: views through Django's test client,
transactions and locks on SQLite or a real PostgreSQL, the hub, agent turns. A few of them open a port
on loopback.
"""
