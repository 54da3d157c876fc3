"""The service's log: one line for each event, as text or JSON, without secrets."""

from __future__ import annotations

import logging
import re
import sys
from typing import Literal, TextIO

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import Processor

_SECRETS = re.compile(r"(?P<token>\btb_)[\w-]{16,}|(?P<user>://[^\s/:@]*):[^\s/@]+@")
_CHATTY = ("latency", "nas", "supernet", "uvicorn")
"""The loggers whose lines are shown from level info on; all others, from warnings on."""


def set_up_logs(form: Literal["text", "json"], stream: TextIO | None = None) -> None:
    """Write all that this process logs in one form.

    Args:
        form: ``text`` for people, ``json`` for machines.
        stream: None is standard error.
    """
    stream = stream or sys.stderr
    of_all: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *of_all,
            ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderers: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
        if form == "json"
        else [
            # The default formatter would show the variables of each frame.
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        _Redacting(
            foreign_pre_chain=of_all,
            processors=[ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.INFO)
    dbos = logging.getLogger("dbos")
    dbos.handlers, dbos.propagate = [handler], False  # else it adds a handler of its own
    logging.captureWarnings(True)


def without_secrets(text: str) -> str:
    """The text with stars in place of tokens and of passwords in URLs.

    Example:
        >>> without_secrets("postgresql://nas:hunter2@db/nas refused")
        'postgresql://nas:***@db/nas refused'
    """
    return _SECRETS.sub(_starred, text)


def _starred(found: re.Match[str]) -> str:
    return "tb_***" if found["token"] else f"{found['user']}:***@"


class _Redacting(ProcessorFormatter):
    """Removes secrets from each line and its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))
