"""Cursors: the end of a page of a long list. The next page begins there, with no OFFSET to count."""

import base64
import binascii
import json
from typing import Any


def encode(*values: Any) -> str:
    text = json.dumps(values, default=str, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(text: str, kinds: tuple[type, ...]) -> tuple[Any, ...] | None:
    """Return the values, or None if the text is no cursor of these types. Then the list begins at its top."""
    try:
        values = json.loads(base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return None
    if not isinstance(values, list) or len(values) != len(kinds):
        return None
    if not all(type(value) is kind for value, kind in zip(values, kinds, strict=True)):
        return None
    return tuple(values)
