"""An agent turn whose node is drained without clients, frozen and woken up, or lost twice."""

import asyncio
from collections.abc import Callable
from typing import Any

from tests.support.chat_steps import send_message
from tests.support.clients import connected, eventually, run
from tests.support.databases import Database
from tests.support.model import Silence, model, says
from tests.support.servers import Server

Serve = Callable[..., Server]
QUICK = {"beat_seconds": 0.3, "lease_seconds": 2, "sweep_seconds": 0.5}
HALF = ("half an ", Silence())
TAKEN_OVER = 20.0  # seconds for a fence and a round of the turn keeper, on a busy machine


def rows(database: Database) -> list[tuple[Any, ...]]:
    return database.query("SELECT attempt, retries, state FROM chat_agentturn")


def texts(database: Database) -> list[str]:
    return [text for (text,) in database.query("SELECT text FROM chat_message ORDER BY seq")]


def test_a_turn_of_a_drained_node_is_answered_by_a_node_without_clients(serve: Serve, database: Database) -> None:
    user = database.user("u1")
    with model(HALF, says("the answer")) as served:
        env = {"CHAT_MODEL": "small", "CHAT_MODEL_URL": served.url}
        drained = serve(database, node_name="web-1", env=env, **QUICK)
        serve(database, node_name="web-2", env=env, ready="/readyz", **QUICK)

        async def main() -> None:
            async with connected(drained, user) as client:
                await send_message(client, "hello")
                await client.expect("agent_delta")
                drained.terminate()
                assert await client.closed(10) == 4012
            assert await drained.ended() == 0
            await eventually(lambda: texts(database) == ["hello", "the answer"], within=TAKEN_OVER)

        run(main())
    assert rows(database) == [(2, 0, "completed")], "a hand-over is no retry"


def test_a_node_that_wakes_up_in_the_middle_of_a_turn_adds_nothing_to_it(serve: Serve, database: Database) -> None:
    user = database.user("u1")
    with model(HALF, says("the answer")) as served:
        env = {"CHAT_MODEL": "small", "CHAT_MODEL_URL": served.url}
        frozen = serve(database, node_name="web-1", env=env, **QUICK)
        other = serve(database, node_name="web-2", env=env, ready="/readyz", **QUICK)

        async def main() -> None:
            async with connected(frozen, user) as client, connected(other, user) as sees:
                conversation = (await send_message(client, "hello"))["conversation"]
                await client.expect("agent_delta")
                await asyncio.to_thread(frozen.freeze)
                await sees.expect("message", conversation=conversation, seq=2, text="the answer", timeout=TAKEN_OVER)
                frozen.thaw()
                assert await client.closed(TAKEN_OVER) == 4012
            await eventually(lambda: "chat_keeper" in frozen.output() or served.left.is_set(), within=TAKEN_OVER)

        run(main())
        assert served.left.is_set(), "the first attempt goes on"
    assert texts(database) == ["hello", "the answer"]
    assert rows(database) == [(2, 1, "completed")]
    assert "Traceback" not in frozen.output()


def test_a_turn_that_loses_two_nodes_ends_in_an_apology_to_all_clients(
    serve: Serve, database: Database, bus: str
) -> None:
    user = database.user("u1")
    with model(HALF) as served:
        env = {"CHAT_MODEL": "small", "CHAT_MODEL_URL": served.url, "CHANNEL_LAYER_URL": bus}
        nodes = {
            name: serve(database, node_name=name, env=env, ready="/readyz", **QUICK)
            for name in ("web-1", "web-2", "web-3")
        }

        def at_work() -> str:
            found = database.query(
                "SELECT n.name FROM chat_agentturn t JOIN connections_node n ON n.id = t.node_id"
                " WHERE t.state = 'running' AND n.fenced_at IS NULL"
            )
            return found[0][0] if found else ""

        async def main() -> None:
            async with connected(nodes["web-2"], user) as two, connected(nodes["web-3"], user) as three:
                async with connected(nodes["web-1"], user) as asks:
                    conversation = (await send_message(asks, "hello"))["conversation"]
                    for watcher in (two, three):
                        await watcher.expect("agent_delta", conversation=conversation)
                    await asyncio.to_thread(nodes["web-1"].kill)
                await eventually(lambda: at_work() in ("web-2", "web-3"), within=TAKEN_OVER)
                second = at_work()
                last = three if second == "web-2" else two
                await last.expect("agent_started", timeout=TAKEN_OVER)
                await last.expect("agent_started", timeout=TAKEN_OVER)
                await asyncio.to_thread(nodes[second].kill)
                done = await last.expect("agent_completed", conversation=conversation, timeout=TAKEN_OVER)
                assert (done["success"], done["seq"]) == (False, 2)
                assert done["text"].startswith("Sorry, the server that worked on this went away")
                await last.expect("message", seq=2, text=done["text"])

        run(main())
    assert rows(database) == [(2, 1, "failed")]
