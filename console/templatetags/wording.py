"""Filters and tags that turn codes, numbers and times into words."""

from datetime import UTC, datetime
from functools import partial
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from connections.models import RecoveryRun
from connections.policy.states import DEAD, Verdict
from connections.policy.wording import duration, in_short
from console import wording

register = template.Library()

for _name, _catalogue in {
    "reason": wording.REASONS,
    "refusal": wording.REFUSALS,
    "verdict": wording.VERDICTS,
    "action": wording.ACTIONS,
    "step": wording.STEPS,
    "kind": wording.KINDS,
    "outcome": wording.OUTCOMES,
    "suggestion": wording.SUGGESTIONS,
}.items():
    register.filter(_name, partial(wording.in_words, catalogue=_catalogue))


@register.filter
def verdict_badge(verdict: str) -> str:
    """The class of a verdict's badge. One of a newer version may mean anything, so it is neither alive nor dead."""
    if not verdict:
        return ""
    if verdict == Verdict.ALIVE:
        return "ok"
    return "dead" if verdict in DEAD else "near"


@register.filter
def result(run: RecoveryRun) -> str:
    return wording.result_of(run.outcome, dry_run=run.dry_run)


@register.filter
def spaced(code: Any) -> str:
    return str(code).replace("_", " ")


@register.filter
def client(user_agent: str) -> str:
    return in_short(user_agent)


@register.filter
def counted(number: int, noun: str) -> str:
    return wording.count_of(number, noun)


@register.filter
def seconds(number: float) -> str:
    return duration(number)


@register.simple_tag(takes_context=True)
def ago(context: template.Context, when: datetime | None, missing: str = "never") -> SafeString | str:
    """`4 min ago` or `in 4 min`, with the time itself in the title. Relative to the page's `now`, if it has one."""
    if when is None:
        return missing
    now = context.get("now") or timezone.now()
    distance = (now - when).total_seconds()
    if distance < -1:
        text = f"in {duration(-distance)}"
    elif distance < 1:
        text = "just now"
    else:
        text = f"{duration(distance)} ago"
    return _time(when, text)


@register.simple_tag
def moment(when: datetime | None, missing: str = "") -> SafeString | str:
    """A time to the second, in UTC."""
    return _time(when, _to_the_second(when)) if when else missing


@register.simple_tag(takes_context=True)
def age(context: template.Context, since: datetime | None, missing: str = "") -> SafeString | str:
    """The time since `since` (`4 min`), with `since` in the title."""
    if since is None:
        return missing
    now = context.get("now") or timezone.now()
    return _time(since, duration((now - since).total_seconds()))


def _time(when: datetime, text: str) -> SafeString:
    return format_html('<time datetime="{}" title="{} UTC">{}</time>', when.isoformat(), _to_the_second(when), text)


def _to_the_second(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
