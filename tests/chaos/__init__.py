"""A chaos run: a small cluster, many clients, faults from a seed, and a verdict for each invariant of DESIGN.

`python -m tests.chaos --seed 7 --seconds 60 --clients 240`, or `make chaos ARGS=…`; docs/reliability.md says the rest.
"""
