"""Bulk inspection in Django's admin. What only lifecycle may write is read-only here; what staff do goes through
`recovery` and `actions`, with a reason and an audit entry.
"""

from connections.admin import audit, limits, nodes, records, refusals, runs

__all__ = ["audit", "limits", "nodes", "records", "refusals", "runs"]
