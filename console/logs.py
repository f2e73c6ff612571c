"""Logging: one line per event on stderr, since `--json` of the commands writes to stdout."""

from typing import Any

import structlog


def configure(*, human: bool) -> dict[str, Any]:
    """Configure structlog, and return the LOGGING dictionary that sends all logs, also of libraries, through it.

    With `human`, lines are aligned and coloured for a terminal. Otherwise each line is one JSON object.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if human else "iso", utc=not human),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structlog": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": shared,
                "processors": _renderers(human=human),
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structlog"}},
        "root": {"handlers": ["stderr"], "level": "INFO"},
        "loggers": LOGGERS,
    }


def _renderers(*, human: bool) -> list[structlog.typing.Processor]:
    """The processors that turn an event into a line."""
    render: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if human:
        render.append(structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback))
    else:
        # Without the values of variables: the scope of a socket holds its cookies.
        traceback = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        render += [
            structlog.processors.ExceptionRenderer(traceback),
            structlog.processors.JSONRenderer(default=str),
        ]
    return render


# Django's own handlers mail the admins and print in DEBUG only; the root's handler replaces them. Twisted logs at INFO
# what only its authors need, and uvicorn three lines a socket, where the engine says more in two.
LOGGERS: dict[str, Any] = {
    "django": {"handlers": [], "level": "INFO", "propagate": True},
    "django.server": {"handlers": [], "level": "INFO", "propagate": True},
    "twisted": {"level": "WARNING"},
    "uvicorn.error": {"level": "WARNING"},
}
