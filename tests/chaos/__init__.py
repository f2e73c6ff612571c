"""A chaos run: a small cluster, many clients, faults from a seed, and a verdict on each invariant. It may start, kill
and freeze servers, PostgreSQL and Valkey, and judges them by what the clients saw and by the rows.

`python -m tests.chaos --seed 7 --seconds 60 --clients 240`, or `make chaos ARGS=…`; docs/reliability.md says the rest.
"""
