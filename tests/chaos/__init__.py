"""A chaos run: a small cluster, many clients, faults from a seed that kill and freeze servers, PostgreSQL and Valkey,
and a verdict on each invariant.

`python -m tests.chaos --seed 7 --seconds 60 --clients 240`, or `make chaos ARGS=…`; docs/reliability.md says the rest.
"""
