"""What must hold in each scenario. `problems` names what did not; an empty list is a pass."""

from tests.outages import bounds
from tests.outages.clients import ADMITTED, TRY_AGAIN, Attempt
from tests.outages.scenario import Notice, slow

MOST_SHOWN = 5
BACKLOG_OF_EACH = 3  # an admission, an accept and a release of whoever lives or is coming


def problems(notice: Notice) -> list[str]:
    return [
        *_living(notice),
        *_nodes(notice),
        *_newcomers(notice),
        *_others(notice),
        *_readiness(notice),
        *_whole_again(notice),
    ]


def _living(notice: Notice) -> list[str]:
    found = []
    if notice.closed:
        codes = ", ".join(f"{count} with {code}" for code, count in notice.closed.items())
        found.append(f"{notice.closed.total()} of {notice.living} living clients were closed: {codes}")
    return found


def _nodes(notice: Notice) -> list[str]:
    found = []
    if notice.fenced:
        found.append(f"fenced: {', '.join(notice.fenced)}")
    if notice.ended_nodes:
        found.append(f"ended: {', '.join(notice.ended_nodes)}")
    if notice.lost_leases and not (notice.scenario.takes_leases or notice.scenario.away):
        found.append(f"lost their leases: {', '.join(notice.lost_leases)}")
    clients = notice.living + len(notice.newcomers)
    if notice.scenario.insistent and notice.backlog > (most := BACKLOG_OF_EACH * _at_a_time(notice)):
        found.append(f"the writer's backlog reached {notice.backlog}, above {most}, for {clients} handshakes in all")
    return found


def _at_a_time(notice: Notice) -> int:
    """How many clients live or wait for an admission at one time, at most."""
    began = sorted(attempt.began for attempt in notice.newcomers)
    first, most = 0, 0
    for last, at in enumerate(began):
        while at - began[first] > bounds.GIVEN_UP + bounds.SLACK:
            first += 1
        most = max(most, last - first + 1)
    return notice.living + most


def _newcomers(notice: Notice) -> list[str]:
    """Each is admitted, or told to try again, within 4 s."""
    allowed = {ADMITTED, TRY_AGAIN}
    late = bounds.GIVEN_UP + bounds.SLACK * notice.crowding + notice.lag
    wrong = [a for a in notice.newcomers if a.outcome not in allowed or a.seconds > late]
    return [f"{len(wrong)} of {len(notice.newcomers)} newcomers: {_shown(wrong)}"] if wrong else []


def _others(notice: Notice) -> list[str]:
    if not notice.scenario.spares_others:
        return []
    found = []
    refused = [a for a in notice.others if a.outcome != ADMITTED]
    if refused:
        found.append(f"{len(refused)} of {len(notice.others)} other users were refused: {_shown(refused)}")
    normal, now = slow(notice.normal), slow(notice.others)
    bound = bounds.FACTOR * normal + bounds.FLOOR * notice.crowding + notice.lag
    if now > bound:
        found.append(
            f"other users' p99 was {now:.3f} s, above {bound:.3f} s (normal {normal:.3f} s, lag {notice.lag:.3f} s)"
        )
    return found


def _readiness(notice: Notice) -> list[str]:
    found = [f"{name} said it was ready, and refused everybody" for name in notice.dishonest]
    due = bounds.PACE.lease + bounds.PACE.beat + bounds.SLACK + notice.lag
    if not notice.scenario.away or notice.seconds < due:
        return found
    for name in ("web-1", "web-2"):
        since, why = notice.unready.get(name, (notice.seconds, ""))
        if since > due or not why:
            found.append(f"/readyz of {name} said 503 after {since:.1f} s, with {why!r}, and was due in {due:.1f} s")
    return found


def _whole_again(notice: Notice) -> list[str]:
    scenario = notice.scenario
    beats = (2 if scenario.away else 1) * bounds.PACE.beat
    agreed = bounds.RECORDS_AND_SOCKETS if scenario.loses_commits else beats
    # A newcomer's handshake itself takes as long as it normally does.
    admission = bounds.FIRST_ADMISSION + slow(notice.normal)
    ready = beats + bounds.PACE.lease if scenario.takes_leases else beats
    found = []
    for what, took, bound in (
        ("a newcomer was admitted", notice.first_admission, admission),
        ("all nodes were ready", notice.ready_again, ready),
        ("records were the open sockets", notice.agreed, agreed),
    ):
        due = bound + bounds.SLACK + notice.lag
        if took is None or took > due:
            found.append(
                f"{what} {'never' if took is None else f'after {took:.1f} s'}, due in {due:.1f} s{_why(notice)}"
            )
    if notice.leaked:
        found.append(f"{notice.leaked} records and sockets did not agree at the end")
    return found


def _why(notice: Notice) -> str:
    """What the nodes said on /readyz, where they were not ready."""
    return "".join(f"; {name} said: {why}" for name, (_, why) in notice.unready.items())


def _shown(attempts: list[Attempt]) -> str:
    worst = sorted(attempts, key=lambda attempt: -attempt.seconds)[:MOST_SHOWN]
    return ", ".join(f"{attempt.outcome} after {attempt.seconds:.2f} s" for attempt in worst)
