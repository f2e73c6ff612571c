"""The rows through which nodes coordinate. Only `lifecycle` changes the state of a manager record."""

from connections.models.choices import choices
from connections.models.nodes import Node
from connections.models.records import ManagerRecord, UserGate
from connections.models.runs import RecoveryRun, RunStep
from connections.models.trail import AuditEntry, Refusal

__all__ = ["AuditEntry", "ManagerRecord", "Node", "RecoveryRun", "Refusal", "RunStep", "UserGate", "choices"]
