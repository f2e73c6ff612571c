"""Hypothesis tests, most of them state machines: Hypothesis chooses the events, and each test checks after them what
must always hold. They run in the tests' own process, over the pure core, the test database and a real PostgreSQL.
"""
