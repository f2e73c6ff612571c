"""The diagnosis of a user: its causes, its suggestion, and the summary that support reads out."""

from connections.policy.diagnosis import Facts, ManagerFact, diagnose
from connections.policy.states import CauseCode, Suggestion, Verdict


def facts(*managers: ManagerFact, **others: object) -> Facts:
    known: dict[str, object] = {
        "username": "Ada",
        "pool": "chat",
        "soft_limit": 20,
        "ceiling": 25,
        "managers": managers,
        "counted_in_pool": sum(m.counted for m in managers),
        "asked": True,
    }
    return Facts(**(known | others))  # type: ignore[arg-type]


LOST = ManagerFact(Verdict.NODE_LOST, "web-2", 240)
SILENT = ManagerFact(Verdict.UNRESPONSIVE, "web-1")
ALIVE = ManagerFact(Verdict.ALIVE, "web-1")


def codes(found: object) -> set[CauseCode]:
    return {cause.code for cause in found.causes}  # type: ignore[attr-defined]


def test_the_summary_names_all_causes_in_one_sentence() -> None:
    found = diagnose(facts(*[LOST] * 12, *[SILENT] * 5, *[ALIVE] * 3))
    assert found.summary == (
        "Ada holds 20 managers at a limit of 20, and 17 are dead: 12 on node web-2, gone for 4 min, "
        "and 5 that do not answer. Recover frees 17."
    )
    assert (found.held, found.dead, found.suggestion) == (20, 17, Suggestion.RECOVER)
    assert [(c.code, c.count) for c in found.causes] == [
        (CauseCode.NODE_LOST, 12),
        (CauseCode.UNRESPONSIVE, 5),
        (CauseCode.AT_LIMIT, 20),
    ]


def test_a_healthy_user_gets_a_summary_without_a_suggestion() -> None:
    found = diagnose(facts(ALIVE, ALIVE))
    assert found.summary == "Ada holds 2 managers at a limit of 20, all alive."
    assert (codes(found), found.suggestion) == ({CauseCode.HEALTHY}, Suggestion.NONE)


def test_a_user_at_the_limit_without_dead_managers_can_connect_again() -> None:
    found = diagnose(facts(*[ALIVE] * 20))
    assert "the next connection is still admitted" in found.summary
    assert found.suggestion is Suggestion.NONE


def test_for_a_user_over_the_limit_the_suggestion_is_to_close_the_least_active() -> None:
    found = diagnose(facts(*[ALIVE] * 22))
    assert "2 too many" in found.summary
    assert (codes(found), found.suggestion) == ({CauseCode.OVER_LIMIT}, Suggestion.RECOVER)


def test_a_disabled_account_is_named_before_all_other_causes() -> None:
    found = diagnose(facts(LOST, active=False))
    assert found.summary.startswith("Ada can't connect: the account is disabled.")
    assert found.suggestion is Suggestion.ENABLE_ACCOUNT


def test_a_rate_limited_user_has_to_wait_and_is_told_how_long() -> None:
    found = diagnose(facts(ALIVE, rate_limited_seconds=12))
    assert "rate limited for 12 s more" in found.summary
    assert found.suggestion is Suggestion.WAIT


def test_no_nodes_draining_nodes_full_nodes_and_a_slow_database_are_different_causes() -> None:
    assert codes(diagnose(facts(nodes=0))) == {CauseCode.NO_NODE}
    assert codes(diagnose(facts(nodes=2, nodes_draining=2))) == {CauseCode.NODES_DRAINING}
    assert codes(diagnose(facts(nodes=2, nodes_draining=1, nodes_full=1))) == {CauseCode.NODES_FULL}
    assert codes(diagnose(facts(database_seconds=3.0))) == {CauseCode.DATABASE_SLOW}


def test_an_unknown_manager_is_never_called_dead() -> None:
    found = diagnose(facts(ALIVE, ManagerFact(Verdict.UNKNOWN, "web-3")))
    assert "1 whose node has not answered" in found.summary
    assert found.dead == 0
    assert found.suggestion is Suggestion.WAIT


def test_a_verdict_of_a_newer_version_is_told_as_it_is_and_is_neither_alive_nor_dead() -> None:
    asleep = ManagerFact(Verdict("asleep"), "web-1")
    found = diagnose(facts(ALIVE, asleep, asleep, ManagerFact(Verdict.UNKNOWN, "web-2")))
    assert found.summary == (
        "Ada holds 4 managers at a limit of 20, none known to be dead. "
        "1 whose node has not answered, and 2 that a newer version found to be asleep."
    )
    assert [(c.code, c.count) for c in found.causes] == [(CauseCode.UNKNOWN, 3)]
    assert found.suggestion is Suggestion.WAIT
