"""A logged error has a traceback without the values of variables."""

import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from console import logs


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("human", [False, True])
def test_a_logged_error_says_where_and_not_what_the_variables_held(human: bool) -> None:
    formatter = dict(logs.configure(human=human)["formatters"]["structlog"])
    line = formatter.pop("()")(**formatter).format(failing_record("sessionid=" + "s3cret"))
    assert "a handler that raises" in line
    assert "failing_record" in line
    assert "s3cret" not in line
    assert human or json.loads(line)["event"] == "handshake_failed"


def failing_record(cookie: str) -> logging.LogRecord:
    try:
        raise ValueError("a handler that raises", len(cookie))
    except ValueError:
        return logging.LogRecord("test", logging.ERROR, __file__, 1, "handshake_failed", None, sys.exc_info())
