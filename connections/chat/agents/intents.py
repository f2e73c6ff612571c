"""Find what a question asks for, by plain rules. Pure."""

import re
from dataclasses import dataclass
from enum import StrEnum

LONGEST_ORDER = 300  # characters: whoever writes more asks for something else, and the rules stay quick


class Intent(StrEnum):
    HELP = "help"
    SESSIONS = "sessions"
    ENDINGS = "endings"
    SIGN_OUT_OTHERS = "sign_out_others"
    SIGN_OUT_HERE = "sign_out_here"
    SEARCH = "search"
    SUMMARY = "summary"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Understood:
    """`about` is what to search for, or the title of what to sum up; empty: this conversation."""

    intent: Intent
    about: str = ""


_POLITE = r"^(?:(?:hi|hello|hey)[\s,!.]+)?(?:(?:please|can you|could you|would you|will you|now)[\s,]+)*"
_END = r"(?:[\s,]*(?:please|now|thanks|thank you))*[\s.!?]*$"
_SIGN_OUT = r"(?:(?:sign|log)\s*(?:out|off)|(?:close|end|disconnect|kick|terminate))"
_THINGS = r"(?:sessions?|devices?|tabs?|browsers?|connections?|clients?|places?|ones?|computers?)"
_OTHERS = rf"(?:of\s+)?(?:all\s+)?(?:of\s+)?(?:my\s+|the\s+)?other(?:s|\s+{_THINGS})"
_EVERYWHERE_ELSE = r"(?:me\s+)?(?:out\s+)?(?:everywhere|anywhere)\s+else"

# An order, from its first word to its last, and nothing like "how do I sign out the others?" or "don't …":
# signing people out is the one thing here that can't be taken back.
_ORDER = re.compile(
    rf"{_POLITE}(?:{_SIGN_OUT}\s+(?:{_OTHERS}|{_EVERYWHERE_ELSE}|me\s+out\s+everywhere\s+else)"
    rf"|(?:sign|log)\s+(?:{_OTHERS}\s+(?:out|off)|me\s+(?:out|off)\s+(?:everywhere|anywhere)\s+else)){_END}",
    re.IGNORECASE,
)
_HERE = re.compile(rf"{_POLITE}(?:(?:sign|log)\s+me\s+(?:out|off)|(?:sign|log)\s*(?:out|off)){_END}", re.IGNORECASE)
_SEARCH = re.compile(
    rf"{_POLITE}(?:search|find|look\s+up|look\s+for|where\s+did\s+I\s+(?:mention|write|say|ask\s+about)"
    r"|when\s+did\s+I\s+(?:mention|write|say|ask\s+about)|what\s+did\s+I\s+(?:say|write|ask)\s+about)"
    r"(?:\s+(?:in\s+)?(?:all\s+)?(?:of\s+)?my\s+(?:conversations|messages|chats))?"
    r"(?:\s+(?:for|about))?\s+(?P<about>.+?)[\s?!.]*$",
    re.IGNORECASE | re.DOTALL,
)
_SUMMARY = re.compile(
    rf"{_POLITE}(?:(?:give|show|make|write)\s+(?:me\s+)?)?(?:a\s+|the\s+)?"
    rf"(?:summar(?:y|ise|ize)|recap|sum\s+up)\b(?:\s+(?:of|for))?\s*(?P<about>.*?){_END}",
    re.IGNORECASE | re.DOTALL,
)
_THIS = re.compile(
    r"^(?:(?:this|the|our|my)\s+)?(?:(?:current|whole)\s+)?(?:conversation|chat|thread|talk|this|it|us)?"
    r"(?:\s+so\s+far)?$",
    re.IGNORECASE,
)
_TITLED = re.compile(r"^(?:the\s+|my\s+)?(?:conversation|chat|thread)\s+(?:about|on|called|named)\s+", re.IGNORECASE)
_ENDINGS = re.compile(
    r"\b(?:why|what happened|how come|when)\b.*"
    r"\b(?:disconnect\w*|kick\w*|sign\w*\s+out|log\w*\s+out|clos\w+|evict\w*|drop\w*|lost|cut\s+off|end(?:ed)?)\b",
    re.IGNORECASE | re.DOTALL,
)
_SESSIONS = re.compile(
    r"\b(?:sessions?|signed\s+in|logged\s+in|logged\s+on|devices?|connections?|connected|tabs|limit|who\s+is\s+using)\b",
    re.IGNORECASE,
)
_HELP = re.compile(
    r"^(?:(?:hi|hello|hey|good\s+(?:morning|afternoon|evening)|help|thanks|thank\s+you)\b[\s\w,]{0,20}[\s.!?]*$"
    r"|.*\b(?:what|who)\s+(?:can|are|do)\s+you\b|how\s+(?:do|can)\s+I\b)",
    re.IGNORECASE | re.DOTALL,
)


def understand(text: str) -> Understood:
    """The first rule that fits, from the most particular to the most general."""
    text = text.strip()
    if len(text) > LONGEST_ORDER:
        return Understood(Intent.OTHER)
    if _ORDER.match(text):
        return Understood(Intent.SIGN_OUT_OTHERS)
    if _HERE.match(text):
        return Understood(Intent.SIGN_OUT_HERE)
    if found := _SUMMARY.match(text):
        about = found["about"].strip()
        return Understood(Intent.SUMMARY, "" if _THIS.match(about) else _bare(_TITLED.sub("", about)))
    if found := _SEARCH.match(text):
        return Understood(Intent.SEARCH, _bare(found["about"]))
    for intent, rule in ((Intent.ENDINGS, _ENDINGS), (Intent.SESSIONS, _SESSIONS)):
        if rule.search(text):
            return Understood(intent)
    return Understood(Intent.HELP if _HELP.match(text) else Intent.OTHER)


def _bare(words: str) -> str:
    return words.strip().strip("\"'“”‘’").strip()
