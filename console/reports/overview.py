"""The figures of the first page. Each query uses a partial index or an index by time; none reads the closed history."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Q, Sum

from connections.models import ManagerRecord, RecoveryRun, Refusal
from connections.policy.node_state import NodeState
from connections.policy.states import RecordState
from console.reports.nodes import NodeRow, current_nodes
from console.reports.users import UserRow, users_at_limit

AT_LIMIT_SHOWN = 10
BACK = timedelta(hours=1)
BARS = 30  # two minutes each, fine enough to show a deployment or an outage


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of the chart, in units of its viewBox: 100 high, 10 wide."""

    x: int
    y: int
    height: int
    count: int
    begins: datetime


@dataclass(frozen=True, slots=True)
class Overview:
    held: int
    counted: int
    users: int
    doubtful: int
    nodes: list[NodeRow]
    at_limit: list[UserRow]
    open_runs: int
    refused: int
    closed: list[tuple[str, int]]
    bars: list[Bar]

    @property
    def closing(self) -> int:
        return self.held - self.counted

    @property
    def nodes_serving(self) -> int:
        return sum(row.node.serves and row.state is NodeState.ALIVE for row in self.nodes)

    @property
    def nodes_in_trouble(self) -> int:
        return sum(row.trouble for row in self.nodes)

    @property
    def closed_total(self) -> int:
        return sum(count for _, count in self.closed)

    @property
    def busiest(self) -> int:
        return max((bar.count for bar in self.bars), default=0)


def read_overview(now: datetime) -> Overview:
    held = ManagerRecord.objects.held()
    doubtful = Q(node__fenced_at__isnull=False) | Q(node__lease_expires_at__lt=now) | Q(overdue_since__isnull=False)
    figures = held.aggregate(
        held=Count("pk"),
        counted=Count("pk", filter=Q(state=RecordState.LIVE)),
        users=Count("user", distinct=True),
        doubtful=Count("pk", filter=doubtful),
    )
    closes = list(
        ManagerRecord.objects.closed().filter(closed_at__gt=now - BACK).values_list("closed_at", "close_reason")
    )
    return Overview(
        **figures,
        nodes=current_nodes(now),
        at_limit=users_at_limit(now, AT_LIMIT_SHOWN),
        open_runs=RecoveryRun.objects.open().count(),
        refused=Refusal.objects.filter(at__gt=now - BACK).aggregate(total=Sum("count"))["total"] or 0,
        closed=Counter(reason for _, reason in closes).most_common(),
        bars=_bars([at for at, _ in closes if at is not None], now),
    )


def _bars(moments: list[datetime], now: datetime) -> list[Bar]:
    width = BACK / BARS
    counts = Counter(min(BARS - 1, max(0, int((moment - (now - BACK)) / width))) for moment in moments)
    top = max(counts.values(), default=0)
    bars = []
    for place in range(BARS):
        count = counts.get(place, 0)
        # At least 4, so that one close beside thousands is still visible.
        height = max(4, round(100 * count / top)) if count else 0
        bars.append(Bar(place * 10, 100 - height, height, count, now - BACK + place * width))
    return bars
