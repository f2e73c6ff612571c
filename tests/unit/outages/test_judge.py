"""The judge of an outage names each thing that did not hold, and nothing else. The table keeps one row for each."""

from collections import Counter
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.outages import report
from tests.outages.clients import ADMITTED, TRY_AGAIN, Attempt
from tests.outages.judge import problems
from tests.outages.scenario import Notice, Scenario, percentile, slow

BEGAN = 1000.0


@asynccontextmanager
async def nothing(rig: object) -> Any:
    yield


def attempts(count: int, seconds: float, outcome: str = ADMITTED) -> list[Attempt]:
    return [Attempt(BEGAN + number / 10, seconds, outcome, "web-1") for number in range(count)]


def good(**fields: Any) -> Notice:
    """What is noticed of ten seconds in which everything holds. `fields` are those of the scenario."""
    return Notice(
        Scenario("one", "a thing is done", nothing, **fields),
        10.0,
        began=BEGAN,
        ended=BEGAN + 10,
        normal=attempts(100, 0.02),
        others=attempts(100, 0.03),
        touched=attempts(20, 4.0, TRY_AGAIN),
        living=12,
        unready=dict.fromkeys(("web-1", "web-2"), (4.2, "the database does not answer")),
        backlog=20,
        first_admission=0.1,
        ready_again=0.2,
        agreed=0.3,
    )


Spoil = Callable[[Notice], Any]
SPOILED: list[tuple[dict[str, Any], Spoil, str]] = [
    ({}, lambda n: n.closed.update({"4012 node_lost": 12}), "12 of 12 living clients were closed: 12 with 4012"),
    ({}, lambda n: n.fenced.append("web-1"), "fenced: web-1"),
    ({}, lambda n: n.ended_nodes.append("web-2"), "ended: web-2"),
    ({}, lambda n: n.lost_leases.append("web-1"), "lost their leases: web-1"),
    ({"insistent": 100, "away": True}, lambda n: setattr(n, "backlog", 100_000), "backlog reached 100000"),
    ({}, lambda n: n.touched.extend(attempts(1, 18.0, TRY_AGAIN)), "1 of 121 newcomers: try_again after 18.00 s"),
    ({}, lambda n: n.touched.extend(attempts(1, 0.1, "code 1006")), "newcomers: code 1006"),
    ({}, lambda n: n.touched.extend(attempts(1, 9.0)), "newcomers: admitted after 9.00 s"),
    ({"spares_others": True}, lambda n: n.others.extend(attempts(1, 4.0, TRY_AGAIN)), "other users were refused"),
    ({"spares_others": True}, lambda n: n.others.extend(attempts(3, 0.3)), "p99 was 0.300 s, above 0.140 s"),
    ({}, lambda n: n.dishonest.append("web-1"), "web-1 said it was ready, and refused everybody"),
    ({"away": True}, lambda n: n.unready.pop("web-2"), "/readyz of web-2"),
    ({"away": True}, lambda n: n.unready.update({"web-1": (4.2, "")}), "/readyz of web-1"),
    ({"away": True}, lambda n: n.unready.update({"web-1": (8.0, "late")}), "/readyz of web-1"),
    ({}, lambda n: setattr(n, "first_admission", None), "a newcomer was admitted never"),
    ({}, lambda n: setattr(n, "first_admission", 10.3), "a newcomer was admitted after 10.3 s"),
    ({}, lambda n: setattr(n, "ready_again", 9.0), "all nodes were ready after 9.0 s"),
    ({}, lambda n: setattr(n, "agreed", 30.0), "records were the open sockets after 30.0 s"),
    ({}, lambda n: setattr(n, "leaked", 2), "2 records and sockets did not agree"),
]  # fmt: skip


@pytest.mark.parametrize("fields", [{}, {"spares_others": True}, {"away": True, "insistent": 100}])
def test_what_holds_has_no_problem(fields: dict[str, Any]) -> None:
    assert problems(good(**fields)) == []


@pytest.mark.parametrize(("fields", "spoil", "said"), SPOILED, ids=[said for _, _, said in SPOILED])
def test_one_thing_that_does_not_hold_is_one_problem(fields: dict[str, Any], spoil: Spoil, said: str) -> None:
    notice = good(**fields)
    spoil(notice)
    [found] = problems(notice)
    assert said in found


def test_a_lock_that_makes_renewals_impossible_may_cost_leases_and_nothing_else() -> None:
    notice = good(takes_leases=True)
    notice.lost_leases.append("web-1")
    assert problems(notice) == []
    notice.fenced.append("web-1")
    assert problems(notice) == ["fenced: web-1"]


def test_the_time_by_which_the_measurer_was_late_is_added_to_the_bounds() -> None:
    notice = good(spares_others=True)
    notice.others += attempts(2, 0.3)
    notice.lag = 0.2
    assert problems(notice) == []


def test_a_percentile_is_the_nearest_rank() -> None:
    assert percentile([*attempts(98, 0.1), *attempts(2, 1.0)], 0.99) == 1.0
    assert percentile([*attempts(99, 0.1), *attempts(1, 1.0)], 0.99) == 0.1
    assert percentile(attempts(3, 0.5), 0.5) == 0.5
    assert percentile([], 0.99) == 0.0


def test_one_slow_handshake_of_few_is_not_the_99th_percentile() -> None:
    assert slow([*attempts(29, 0.1), *attempts(1, 1.0)]) == 0.1
    assert slow([*attempts(28, 0.1), *attempts(2, 1.0)]) == 1.0
    assert slow([*attempts(198, 0.1), *attempts(2, 1.0)]) == 0.1
    assert slow([]) == 0.0


def test_on_a_crowded_machine_the_floor_is_higher() -> None:
    notice = good(spares_others=True)
    notice.others += attempts(3, 0.3)
    notice.crowding = 4.0
    assert problems(notice) == []


def test_a_row_takes_the_place_of_the_earlier_one_of_its_scenario_and_duration(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text(f"Before.\n{report.BEGIN}\n{report.END}\nAfter.\n")
    assert report.has_marks(document)
    one, two = good(), good()
    two.seconds = 60.0
    for notice in (two, one, one):
        notice.closed = Counter({"4012 node_lost": 3}) if notice is one else Counter()
        report.fill(document, report.cells(notice, problems(notice)), [notice.scenario])
    rows = [line for line in document.read_text().splitlines() if "(`one`)" in line]
    assert [row.split("|")[2].strip() for row in rows] == ["10", "60"]
    assert ["3 4012 node_lost" in row and "**fails**" in row for row in rows] == [True, False]
    assert document.read_text().startswith("Before.\n")
    assert document.read_text().endswith("After.\n")
