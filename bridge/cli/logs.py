"""The log: events and names, never content.

An exception is logged by its type and the places it came through. Its message is left out unless it is one of
ours, since a library's message may repeat the value that it failed on. For the same reason a library's own line is
shown as it stands in its code, without what was put into it, and where that can't be told apart, by its place alone.
"""

from __future__ import annotations

import asyncio
import io
import logging
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Any, TextIO

import structlog

from bridge.model import in_hand
from bridge.model.errors import NightbellError

# Libraries that write requests, statements or decrypted text at their lower levels.
TALKATIVE = ("mau", "aiosqlite", "asyncio", "sqlalchemy", "alembic", "aiohttp", "nio", "phonenumbers")

# What of a line is not said itself: how it is rendered, and where a failure came through.
UNTOLD = ("exc_info", "_record", "_from_structlog", "level", "timestamp")
EVENT_NAME = re.compile(r"[a-z]+(_[a-z]+)+")

log = structlog.get_logger(__name__)


class _StandardError(io.TextIOBase):
    """Where the log goes. Its disk may be full or its reader gone: what can't be logged must not cost a page."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


def configure_logging(level: str, format_: str) -> None:
    """Send every log line to standard error."""
    stream: Any = _StandardError()
    shared: list[Any] = [
        withhold,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _trace_without_values,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if format_ == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level.upper()),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )
    logging.raiseExceptions = False  # or a line that can't be written would be shown with its values
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_of_a_library, *shared],
            use_get_message=False,
            pass_foreign_args=True,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


def watch_the_process() -> None:
    """Have Python itself tell no value of what it finds wrong outside of any task."""

    def unraisable(found: sys.UnraisableHookArgs) -> None:
        log.error("unraisable_failure", error=found.exc_type.__name__, exc_info=found.exc_value)

    def in_thread(found: threading.ExceptHookArgs) -> None:
        log.error("thread_failed", error=found.exc_type.__name__, exc_info=found.exc_value)

    def warned(  # noqa: PLR0917 - Python's own signature
        message: Warning | str,  # noqa: ARG001 - it may hold a value
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,  # noqa: ARG001
        line: str | None = None,  # noqa: ARG001
    ) -> None:
        log.warning("library_warning", category=category.__name__, at=_place(filename, lineno))

    sys.unraisablehook = unraisable
    threading.excepthook = in_thread
    warnings.showwarning = warned


def note_unhandled(_loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """What asyncio reports when nobody awaits a failure. Its own words show the failed call with its values."""
    error = context.get("exception")
    log.error("unhandled_failure", error=type(error).__name__, exc_info=error)


def withhold(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put a line that tells of the event in hand behind one that says only that there was such a line."""
    told = [str(line.get("event", "")), *(str(value) for name, value in line.items() if name not in UNTOLD)]
    if not in_hand.reveals(*told):
        return line
    kept = {name: line[name] for name in UNTOLD if name in line}
    name = str(line.get("event", ""))
    return {**kept, "event": "line_withheld", "line": name if EVENT_NAME.fullmatch(name) else ""}


def _of_a_library(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What a library says, without its values: only words that it puts apart from them, or that are no secret."""
    record: logging.LogRecord = line["_record"]
    apart = line.pop("positional_args", ()) != ()
    shown = isinstance(record.msg, str) and (apart or in_hand.is_public(record.msg))
    line["event"] = record.msg if shown else "library_line"
    line["library"], line["at"] = record.name, _place(record.pathname, record.lineno)
    return line


def _place(file: str, line: int) -> str:
    return f"{file}:{line}"


def _trace_without_values(
    _logger: Any, _method: str, line: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    found = line.pop("exc_info", None)
    if not found:
        return line
    error = sys.exc_info()[1] if found is True else found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        line["trace"] = _told(error)
    return line


def _told(error: BaseException) -> str:
    places = [
        f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)
    ]
    said = f": {error}" if isinstance(error, NightbellError) and not in_hand.reveals(str(error)) else ""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    told = " > ".join([*places, f"{type(error).__name__}{said}"])
    if isinstance(error, BaseExceptionGroup):
        told += f" of ({'; '.join(map(_told, error.exceptions))})"
    return f"{told} | from {_told(cause)}" if cause is not None else told
