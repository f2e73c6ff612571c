"""All scenarios, in the order of the table."""

from tests.outages import failover, locks, pooler, sqlite, trouble

SCENARIOS = [
    *locks.SCENARIOS,
    *trouble.SCENARIOS,
    *sqlite.SCENARIOS,
    *failover.SCENARIOS,
    *pooler.SCENARIOS,
]
