"""While an answer comes in pieces, the page stays usable and does not draw too often."""

from typing import Any
from uuid import uuid4

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Shared
from tests.support.browser import Pages
from tests.support.chat_page import (
    WebSocketProxy,
    add_conversations,
    change_module,
    conversation_links,
    messages,
    wait_until_live,
)


class Turn:
    """An answer whose frames the test sends to the page."""

    def __init__(self, page: Page, proxy: WebSocketProxy, conversation: str) -> None:
        self.page = page
        self.proxy = proxy
        self.about = {"run": str(uuid4()), "conversation": conversation}
        self.text = ""
        self.tell("agent_started")

    def tell(self, kind: str, /, **fields: Any) -> None:
        self.proxy.tell(kind, **self.about, **fields)

    def use(self, tool: str) -> None:
        self.tell("tool_executing", tool=tool, parameters={"query": "invoice"})
        self.tell("tool_completed", tool=tool, result={"found": 1}, success=True, duration_ms=3)

    def delta(self, text: str) -> None:
        self.text += text
        self.tell("agent_delta", text=text)

    def goes_on(self, pieces: int = 20) -> None:
        """Send many pieces, and wait until the page shows them."""
        for _ in range(pieces):
            self.delta("more ")
        last = f"piece-{uuid4().hex}"
        self.delta(last + " ")
        expect(written(self.page)).to_contain_text(last)

    def ends(self, seq: int, *steps: dict[str, Any]) -> None:
        at = "2026-01-01T00:00:00Z"
        answer = {"seq": seq, "role": "assistant", "text": self.text, "created_at": at, "steps": steps}
        self.proxy.tell("message", conversation=self.about["conversation"], **answer)
        self.tell("agent_completed", text=self.text, seq=seq, success=True, duration_ms=5)


def written(page: Page) -> Locator:
    return page.locator("#turn .text")


def test_while_an_answer_comes_everything_else_can_be_used(shared: Shared, pages: Pages) -> None:
    user = shared.user()
    other, conversation = add_conversations(shared.database, user, 2, 2)
    page = pages.open(shared.server, user)
    proxy = WebSocketProxy(page)
    page.goto(f"/chat/#{conversation}")
    expect(messages(wait_until_live(page))).to_have_count(2)
    turn = Turn(page, proxy, conversation)
    turn.tell("agent_thinking", thought="I look for it.")
    turn.use("search_my_conversations")
    turn.goes_on()
    steps_stay_unfolded(turn)
    selected_text_stays_selected(turn)
    a_link_that_moves_up_keeps_the_focus(turn, other)
    a_slow_click_counts(turn)
    steps_that_were_unfolded_are_unfolded_in_the_message(turn)


def steps_stay_unfolded(turn: Turn) -> None:
    """Also when more of them come."""
    steps = turn.page.locator("#turn .steps")
    steps.locator("summary").click()
    turn.use("my_sessions")
    turn.goes_on()
    expect(steps.locator("li")).to_have_count(3)
    expect(steps.locator("li").last).to_be_visible()
    expect(steps.locator("summary")).to_be_focused()


def selected_text_stays_selected(turn: Turn) -> None:
    select = "text => getSelection().selectAllChildren(text)"
    messages(turn.page).first.locator(".text").evaluate(select)
    turn.goes_on()
    assert turn.page.evaluate("getSelection().toString()") == "2.1"


def a_link_that_moves_up_keeps_the_focus(turn: Turn, other: str) -> None:
    """A message comes in the other conversation, whose link in the list has the focus."""
    links = conversation_links(turn.page)
    link = links.filter(has_text="Conversation 1")
    link.focus()
    turn.goes_on()
    expect(link).to_be_focused()
    at = "2026-01-01T00:00:00Z"
    turn.proxy.tell("message", conversation=other, seq=3, role="assistant", text="news", created_at=at)
    expect(links.first).to_contain_text("Conversation 1 (new message)")
    expect(link).to_be_focused()


def a_slow_click_counts(turn: Turn) -> None:
    """It begins before the page draws and ends afterwards. It opens the other conversation; then the user goes back."""
    page = turn.page
    conversation_links(page).filter(has_text="Conversation 1").hover()
    page.mouse.down()
    turn.goes_on()
    page.mouse.up()
    expect(page.get_by_role("heading", level=1)).to_have_text("Conversation 1")
    expect(messages(page).nth(1)).to_contain_text("1.2")
    expect(page.locator("#turn > *")).to_have_count(0)
    turn.delta("and the rest")
    page.go_back()
    expect(written(page)).to_contain_text("and the rest")


def steps_that_were_unfolded_are_unfolded_in_the_message(turn: Turn) -> None:
    page = turn.page
    page.locator("#turn .steps summary").click()
    tool = {"tool": "my_sessions", "parameters": {}, "result": 1, "success": True, "duration_ms": 3}
    turn.ends(3, {"thought": "I look for it."}, tool)
    expect(page.locator("#turn > *")).to_have_count(0)
    expect(messages(page).last.get_by_text("I look for it.")).to_be_visible()
    expect(messages(page).last).to_contain_text("and the rest")


def test_of_two_running_answers_the_shown_one_belongs_to_the_open_conversation(shared: Shared, pages: Pages) -> None:
    user = shared.user()
    first, second = add_conversations(shared.database, user, 2, 2)
    page = pages.open(shared.server, user)
    change_module(page, "live-turn.js", "DRAW_MS = 100", "DRAW_MS = 1000")
    proxy = WebSocketProxy(page)
    page.goto(f"/chat/#{first}")
    expect(messages(wait_until_live(page))).to_have_count(2)
    of_first, of_second = Turn(page, proxy, first), Turn(page, proxy, second)
    of_second.delta("of the second")
    of_first.goes_on(0)
    of_first.delta("which is drawn later")
    of_first.use("my_sessions")
    expect(page.locator("#turn .steps")).to_be_visible()  # by now the first answer is due to be drawn
    conversation_links(page).first.click()
    expect(written(page)).to_have_text("of the second")
    expect(page.locator("#turn .steps")).to_have_count(0)
    page.wait_for_timeout(1200)
    expect(written(page)).to_have_text("of the second")
    page.go_back()
    expect(written(page)).to_contain_text("which is drawn later")


COUNT = """() => {
  window.drawn = window.shown = 0;
  window.began = performance.now();
  new MutationObserver(() => (window.drawn += 1)).observe(document.querySelector("#turn .text"), { childList: true });
  new MutationObserver(() => (window.shown += 1)).observe(document.querySelector("#title"), { childList: true });
}"""


def test_a_long_answer_in_many_pieces_is_drawn_a_few_times_a_second(shared: Shared, pages: Pages) -> None:
    user = shared.user()
    (conversation,) = add_conversations(shared.database, user, 2)
    page = pages.open(shared.server, user)
    proxy = WebSocketProxy(page)
    page.goto(f"/chat/#{conversation}")
    expect(messages(wait_until_live(page))).to_have_count(2)
    turn = Turn(page, proxy, conversation)
    turn.goes_on(1)
    page.evaluate(COUNT)
    for number in range(2000):
        turn.delta(f"**{number:04}** words\n")
        if number % 50 == 0:
            page.wait_for_timeout(10)  # so that the pieces come over some time
    turn.delta("the end")
    expect(written(page)).to_contain_text("the end", timeout=20_000)
    assert len(turn.text) > 30_000
    drawn, shown, milliseconds = page.evaluate("[window.drawn, window.shown, performance.now() - window.began]")
    assert 2 <= drawn < 2000 / 5
    assert drawn <= milliseconds / 100 + 2, "more often than ten times a second"
    assert shown <= milliseconds / 16 + 10, "the rest of the page, more than once a frame"
