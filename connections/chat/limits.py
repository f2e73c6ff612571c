"""The chat's limits, each with the reason for its number. Pure."""

FRAME_BYTES = 64 * 1024  # eight times TEXT_CHARACTERS: room for four bytes a character and escapes
FRAMES_PER_SECOND = 50  # nobody types that fast, and a page that resends its outbox stays below
TEXT_CHARACTERS = 8192
FRAMES_WAITING = 64  # above FRAMES_PER_SECOND, so that the rate limit acts before the queue is full
CONVERSATIONS_PER_USER = 1000
CONVERSATIONS_LISTED = 100  # in one `conversations` frame: what the page's side bar shows at first
SESSIONS_AT_ONCE = 100  # ids in one close_sessions; four times the usual ceiling
PAGE_OF_MESSAGES = 100  # rows read at once by a resume

TURNS_PER_USER = 3  # running at the same time, over all nodes
TURNS_WAITING = 20  # queued turns per conversation; later questions join the last one
TURN_SECONDS = 60.0  # a turn that takes longer is ended with an apology
TURN_GRACE_SECONDS = 5.0  # after its deadline, its own node may end a turn; after that, any node
TURN_RETRIES = 1  # how often a turn whose node was lost is run again
AGENT_STEPS = 100  # thoughts and tool calls of one answer: several times those of a long one
AGENT_CANCEL_SECONDS = 2.0  # for a cancelled agent to end; then it is abandoned
TOOL_SECONDS = 5.0  # below the time limit of a database call, so that this one is reached first
STRAY_SECONDS = 12.0  # a claimed turn that does not run by then was lost with the reply: three times what a call has
ANSWER_CHARACTERS = 32_768
KEEPER_SECONDS = 5.0  # how often each node looks for abandoned turns
