"""Make text storable and sendable: no NUL and no half of a surrogate pair, both of which models may emit. Pure."""

from typing import Any

UNKNOWN = "\N{REPLACEMENT CHARACTER}"


def plain(text: str) -> str:
    """Join the halves of surrogate pairs, and replace what is left of NUL and halves."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", UNKNOWN)


def plain_data(value: Any) -> Any:
    """Sanitize all strings of JSON data."""
    match value:
        case str():
            return plain(value)
        case dict():
            return {plain(str(key)): plain_data(inner) for key, inner in value.items()}
        case list() | tuple():
            return [plain_data(inner) for inner in value]
    return value


class PlainPieces:
    """Sanitize text that comes in pieces, which may cut a pair in two."""

    def __init__(self) -> None:
        self._half = ""

    def next(self, piece: str) -> str:
        piece = self._half + piece
        self._half = piece[-1:] if "\ud800" <= piece[-1:] <= "\udbff" else ""
        return plain(piece[:-1] if self._half else piece)
