"""Every change of a row: records, leases, audit entries. Code here runs in a transaction and touches no event loop."""
