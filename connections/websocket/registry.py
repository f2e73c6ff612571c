"""The managers of this process by id. Changed on the event loop only; other threads read copies."""

from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from connections.websocket.manager import Manager


class Registry:
    def __init__(self) -> None:
        self._by_id: dict[UUID, Manager] = {}
        self.opened = 0  # since the process began

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, manager: "Manager") -> None:
        self._by_id[manager.id] = manager
        self.opened += 1

    def remove(self, manager: "Manager") -> None:
        self._by_id.pop(manager.id, None)

    def get(self, manager_id: UUID) -> "Manager | None":
        return self._by_id.get(manager_id)

    def all(self) -> "list[Manager]":
        return list(self._by_id.values())
