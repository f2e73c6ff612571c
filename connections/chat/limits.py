"""The chat's own bounds, each with why this number. Pure."""

FRAME_BYTES = 64 * 1024  # eight times the longest message, should every character take four bytes and an escape
FRAMES_PER_SECOND = 50  # nobody types so fast, and a page that resends its outbox stays below it
TEXT_CHARACTERS = 8192
FRAMES_WAITING = 64  # above FRAMES_PER_SECOND, so that a flood is seen while the first frame is handled
CONVERSATIONS_PER_USER = 1000
CONVERSATIONS_LISTED = 100  # what the side of the page shows
SESSIONS_AT_ONCE = 100  # ids in one close_sessions; four times the usual ceiling
PAGE_OF_MESSAGES = 100  # rows read at once by a resume

TURNS_PER_USER = 3  # running at the same time, over all nodes
TURNS_WAITING = 20  # per conversation; later questions join the last that waits
TURN_SECONDS = 60.0  # a turn that takes longer is ended with an apology
TURN_GRACE_SECONDS = 5.0  # after its deadline a turn is its own node's to end; later anybody's
TURN_RETRIES = 1  # how often a turn whose node was lost is begun again
AGENT_STEPS = 100  # thoughts and tool calls of one answer: several times what a long one shows
AGENT_CANCEL_SECONDS = 2.0  # for a cancelled agent to end; one that swallows it is abandoned
TOOL_SECONDS = 5.0  # below what a call of the database may take, so that this bound is met first
STRAY_SECONDS = 12.0  # a claim that has come back to nobody by then was lost: a call has 8 s
ANSWER_CHARACTERS = 32_768
KEEPER_SECONDS = 5.0  # how often each node looks for turns that were left behind
