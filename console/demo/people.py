"""The users of the demo. Pure: no database, no Django."""

from dataclasses import dataclass

PASSWORD = "demo"  # noqa: S105  # public on purpose: these users exist on loopback only
DOMAIN = "demo.invalid"
"""The email domain of the demo's users. RFC 2606 reserves `.invalid`, so no real user has it."""

SOFT_LIMIT = 20
LOST, SILENT, LIVING = 12, 5, 3
"""The managers of the stuck user: on the killed node, whose clients never answer, and alive."""

STUCK = "grace"


@dataclass(frozen=True, slots=True)
class Person:
    """A demo user. `group` is set for staff, `tabs` for users who chat; `soft_limit` is an override."""

    name: str
    about: str
    group: str = ""
    tabs: int = 0
    soft_limit: int | None = None
    disabled: bool = False

    @property
    def email(self) -> str:
        return f"{self.name}@{DOMAIN}"


PEOPLE = (
    Person("viewer", "staff: sees everything, changes nothing", group="Support viewer"),
    Person("support", "staff: recovers users and closes managers", group="Support"),
    Person("lead", "staff: also resets, sets limits, drains, reads the audit trail", group="Support lead"),
    Person("ada", "end user: healthy, chats in 3 tabs", tabs=3),
    Person(STUCK, f"end user: stuck at {SOFT_LIMIT} of {SOFT_LIMIT}", tabs=LIVING),
    Person("alan", "end user: near the limit, and all of it alive", tabs=17),
    Person("barbara", "end user: a lower limit of her own, which she has reached", tabs=4, soft_limit=4),
    Person("edsger", "end user: his account is disabled", disabled=True),
    Person("frances", "end user", tabs=2),
    Person("hedy", "end user", tabs=1),
    Person("katherine", "end user", tabs=2),
    Person("margaret", "end user", tabs=1),
)

SHOWN = ("viewer", "support", "lead", "ada", STUCK)
"""The users whose log-ins the command prints."""

_CHROME = "AppleWebKit/537.36 (KHTML, like Gecko)"
_SAFARI = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
BROWSERS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_CHROME} Chrome/141.0.0.0 Safari/537.36",
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) {_SAFARI} Version/18.5 Mobile/15E148 Safari/604.1",
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_SAFARI} Version/18.5 Safari/605.1.15",
)

QUESTIONS = (
    "Which of my devices are signed in?",
    "Hello again! Is everything in order?",
    "What time is it where you are?",
    "How many connections do I have?",
    "Can you list my sessions?",
    "Thank you, that helps.",
    "What can you do for me?",
)
