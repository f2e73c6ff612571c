"""All changes of records, leases and audit entries. Code here works on rows in transactions, and on no event loop."""
