"""Bulk inspection in Django's admin: pages are read-only, and actions go through `connections.recovery`, with a reason
and an audit entry.
"""

from connections.admin import audit, limits, nodes, records, refusals, runs

__all__ = ["audit", "limits", "nodes", "records", "refusals", "runs"]
