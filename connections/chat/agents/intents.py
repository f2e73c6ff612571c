"""Match a question against plain rules that say what the user wants. Pure."""

import re
from dataclasses import dataclass
from enum import StrEnum

MAX_REQUEST_CHARACTERS = 300  # a longer text is no request that the rules know, and they stay fast


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
class ParsedQuestion:
    """`subject` is what to search for, or the title of the conversation to sum up; empty for the current one."""

    intent: Intent
    subject: str = ""


_POLITE = r"^(?:(?:hi|hello|hey)[\s,!.]+)?(?:(?:please|can you|could you|would you|will you|now)[\s,]+)*"
_END = r"(?:[\s,]*(?:please|now|thanks|thank you))*[\s.!?]*$"
_SIGN_OUT = r"(?:(?:sign|log)\s*(?:out|off)|(?:close|end|disconnect|kick|terminate))"
_THINGS = r"(?:sessions?|devices?|tabs?|browsers?|connections?|clients?|places?|ones?|computers?)"
_OTHERS = rf"(?:of\s+)?(?:all\s+)?(?:of\s+)?(?:my\s+|the\s+)?other(?:s|\s+{_THINGS})"
_EVERYWHERE_ELSE = r"(?:me\s+)?(?:out\s+)?(?:everywhere|anywhere)\s+else"

# Matches a request to sign out the others only if it is the whole text, and not "how do I sign out the others?" or
# "don't …": signing out is the only action here that can't be undone.
_SIGN_OUT_OTHERS = re.compile(
    rf"{_POLITE}(?:{_SIGN_OUT}\s+(?:{_OTHERS}|{_EVERYWHERE_ELSE}|me\s+out\s+everywhere\s+else)"
    rf"|(?:sign|log)\s+(?:{_OTHERS}\s+(?:out|off)|me\s+(?:out|off)\s+(?:everywhere|anywhere)\s+else)){_END}",
    re.IGNORECASE,
)
_SIGN_OUT_HERE = re.compile(
    rf"{_POLITE}(?:(?:sign|log)\s+me\s+(?:out|off)|(?:sign|log)\s*(?:out|off)){_END}", re.IGNORECASE
)
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
_THIS_CONVERSATION = re.compile(
    r"^(?:(?:this|the|our|my)\s+)?(?:(?:current|whole)\s+)?(?:conversation|chat|thread|talk|this|it|us)?"
    r"(?:\s+so\s+far)?$",
    re.IGNORECASE,
)
_TITLE_PREFIX = re.compile(
    r"^(?:the\s+|my\s+)?(?:conversation|chat|thread)\s+(?:about|on|called|named)\s+", re.IGNORECASE
)
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


def parse_question(text: str) -> ParsedQuestion:
    """Return the intent of the first rule that matches. The rules go from the most specific to the most general."""
    text = text.strip()
    if len(text) > MAX_REQUEST_CHARACTERS:
        return ParsedQuestion(Intent.OTHER)
    if _SIGN_OUT_OTHERS.match(text):
        return ParsedQuestion(Intent.SIGN_OUT_OTHERS)
    if _SIGN_OUT_HERE.match(text):
        return ParsedQuestion(Intent.SIGN_OUT_HERE)
    if match := _SUMMARY.match(text):
        subject = match["about"].strip()
        title = "" if _THIS_CONVERSATION.match(subject) else _unquoted(_TITLE_PREFIX.sub("", subject))
        return ParsedQuestion(Intent.SUMMARY, title)
    if match := _SEARCH.match(text):
        return ParsedQuestion(Intent.SEARCH, _unquoted(match["about"]))
    for intent, rule in ((Intent.ENDINGS, _ENDINGS), (Intent.SESSIONS, _SESSIONS)):
        if rule.search(text):
            return ParsedQuestion(intent)
    return ParsedQuestion(Intent.HELP if _HELP.match(text) else Intent.OTHER)


def _unquoted(words: str) -> str:
    return words.strip().strip("\"'“”‘’").strip()
