"""Hypothesis tests in the tests' own process, most of them state machines, of what must always hold, over the pure
core, the test database and a real PostgreSQL.
"""
