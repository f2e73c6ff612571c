"""The interface of a node as its managers use it."""

from typing import TYPE_CHECKING, Protocol

from connections.conf import Tunables
from connections.policy.admission import Admission
from connections.policy.states import CloseReason, Refused
from connections.websocket.clock import NodeClock

if TYPE_CHECKING:
    from connections.websocket.manager import Manager


class Host(Protocol):
    """What a manager calls on its node. No method blocks the event loop."""

    clock: NodeClock
    tunables: Tunables

    @property
    def leaving(self) -> bool: ...

    async def admit(self, manager: "Manager") -> Admission | Refused: ...
    def accepted(self, manager: "Manager") -> None: ...
    def released(self, manager: "Manager", reason: CloseReason, evidence: str) -> None: ...
    def retry_after(self, manager: "Manager", refused: Refused) -> float: ...
    async def written(self) -> None: ...
    def abandoned(self, manager: "Manager") -> None: ...
    def probe_answered(self) -> None: ...
