"""Replace what models may emit and rows and frames can't hold: NUL and unpaired surrogates. Pure."""

from typing import Any

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def sanitize_text(text: str) -> str:
    """Join surrogate pairs; replace NUL and each unpaired surrogate."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", REPLACEMENT)


def sanitize_data(value: Any) -> Any:
    """Sanitize all strings in JSON data, keys included."""
    match value:
        case str():
            return sanitize_text(value)
        case dict():
            return {sanitize_text(str(key)): sanitize_data(inner) for key, inner in value.items()}
        case list() | tuple():
            return [sanitize_data(inner) for inner in value]
    return value


class PieceSanitizer:
    """Sanitize text that comes in pieces. A surrogate pair may be split between two pieces."""

    def __init__(self) -> None:
        self._high_surrogate = ""

    def next(self, piece: str) -> str:
        piece = self._high_surrogate + piece
        self._high_surrogate = piece[-1:] if "\ud800" <= piece[-1:] <= "\udbff" else ""
        return sanitize_text(piece[:-1] if self._high_surrogate else piece)
