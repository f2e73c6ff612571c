"""The schedule of a chaos run is the same for the same seed, and keeps to its plan."""

from tests.chaos.schedule import NODES, ON_NODES, ON_STORES, REST_SECONDS, Kind, Plan, schedule

PLAN = Plan(seconds=120, clients=200, users=20)
SEEDS = range(1, 41)


def test_a_seed_gives_the_same_schedule_each_time() -> None:
    assert schedule(7, PLAN) == schedule(7, PLAN)
    assert len({str(schedule(seed, PLAN)) for seed in SEEDS}) == len(SEEDS)


def test_a_long_schedule_has_every_kind_of_fault() -> None:
    assert {fault.kind for seed in SEEDS for fault in schedule(seed, PLAN)} == set(Kind)


def test_faults_are_within_the_plan_and_in_order() -> None:
    for seed in SEEDS:
        faults = schedule(seed, PLAN)
        assert len(faults) > 20
        assert [fault.at for fault in faults] == sorted(fault.at for fault in faults)
        assert all(0 < fault.at < PLAN.seconds for fault in faults)
        assert all(fault.seconds <= 10 and fault.count <= PLAN.clients // 8 for fault in faults)
        assert all(int(fault.target) < PLAN.users for fault in faults if fault.kind is Kind.STAMPEDE)


def test_a_node_or_store_gets_no_new_fault_until_it_has_rested_after_its_last_one() -> None:
    for seed in SEEDS:
        back = dict.fromkeys([*NODES, *ON_STORES.values()], 0.0)
        for fault in schedule(seed, PLAN):
            if fault.kind in ON_NODES or fault.kind in ON_STORES:
                assert fault.at >= back[fault.target]
                back[fault.target] = fault.at + fault.seconds + REST_SECONDS
