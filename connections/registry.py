"""The managers of this process, by id and by user. Used on the event loop; other threads read copies."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from connections.manager import Manager


class Registry:
    def __init__(self) -> None:
        self._by_id: dict[UUID, Manager] = {}
        self._by_user: dict[Any, set[Manager]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, manager: "Manager") -> None:
        self._by_id[manager.id] = manager
        self._by_user.setdefault(manager.user_id, set()).add(manager)

    def remove(self, manager: "Manager") -> None:
        self._by_id.pop(manager.id, None)
        same = self._by_user.get(manager.user_id)
        if same is not None:
            same.discard(manager)
            if not same:
                del self._by_user[manager.user_id]

    def get(self, manager_id: UUID) -> "Manager | None":
        return self._by_id.get(manager_id)

    def of_user(self, user_id: Any) -> "list[Manager]":
        return list(self._by_user.get(user_id, ()))

    def all(self) -> "list[Manager]":
        return list(self._by_id.values())

    def ids(self) -> set[UUID]:
        return set(self._by_id)


registry = Registry()
