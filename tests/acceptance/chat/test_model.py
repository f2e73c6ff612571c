"""A chat on a real server, whose agent asks a model over HTTP."""

from collections.abc import Callable

from tests.support.chat_steps import check_event_order, read_with_new_client, send_message, wait_for_answer
from tests.support.clients import connected, run
from tests.support.databases import Database
from tests.support.model import calls, model, says
from tests.support.servers import Server, free_port

Serve = Callable[..., Server]


def test_a_model_answers_with_the_users_own_data(serve: Serve, database: Database) -> None:
    user = database.user("u1")
    with model(calls(("my_sessions", "{}")), says("You have ", "**one** session.")) as served:
        env = {"CHAT_MODEL": "small", "CHAT_MODEL_URL": served.url, "CHAT_MODEL_KEY": "sk-test"}
        server = serve(database, env=env)

        async def main() -> None:
            async with connected(server, user) as client:
                conversation = (await send_message(client, "Where am I signed in?"))["conversation"]
                done = await wait_for_answer(client, conversation)
                assert done["text"] == "You have **one** session."
                await check_event_order(client, conversation)
                found = await read_with_new_client(server, user, conversation, 1)
                assert [message["text"] for message in found] == [done["text"]]

        run(main())
        assert "The model small answers" in server.get("/chat/", cookie=user.cookie)[1]
    assert served.keys == ["Bearer sk-test"] * 2
    assert "sk-test" not in server.output()


def test_the_agent_says_that_its_model_is_away_and_the_chat_goes_on(serve: Serve, database: Database) -> None:
    user = database.user("u1")
    env = {"CHAT_MODEL": "small", "CHAT_MODEL_URL": f"http://127.0.0.1:{free_port()}/v1"}
    server = serve(database, env=env)

    async def main() -> None:
        async with connected(server, user) as client:
            conversation = (await send_message(client, "Hello?"))["conversation"]
            done = await wait_for_answer(client, conversation)
            assert (done["success"], done["seq"]) == (False, 2)
            assert done["text"].startswith("The model can't be reached right now.")
            await send_message(client, "And now?", conversation)
            await client.expect("agent_completed", conversation=conversation, seq=4, success=False)

    run(main())
