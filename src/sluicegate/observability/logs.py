"""Structured logs on the standard library: one event a line, as JSON or for a console.

Fields are keyword arguments: ``log.info("job claimed", job=id)``. Inside a request every line carries its
request id. Callers of this module never pass secrets, prompts or bodies.
"""

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import msgspec

from sluicegate.settings import ObservabilitySettings

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request being served, set by the server."""

_COLOURS = {"DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}


class Log:
    """A named logger that takes fields as keyword arguments."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: Any) -> None:
        """Detail for the developer."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """What happened."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something is off, and was handled."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, *, trace: bool = False, **fields: Any) -> None:
        """Something failed; `trace` adds the traceback of the exception being handled."""
        self._write(logging.ERROR, event, fields, trace=trace)

    def _write(self, level: int, event: str, fields: dict[str, Any], *, trace: bool = False) -> None:
        if self._logger.isEnabledFor(level):
            current = request_id.get()
            if current is not None:
                fields.setdefault("request_id", current)
            self._logger.log(level, event, extra={"fields": fields}, exc_info=trace)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, event, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


class ConsoleFormatter(logging.Formatter):
    """Time, level, event and ``name=value`` fields, with colours when `colour` is set."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        level = f"{record.levelname.lower():<7}"
        if self._colour:
            level = f"\x1b[{_COLOURS.get(record.levelname, '0')}m{level}\x1b[0m"
        moment = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        fields = " ".join(f"{name}={_plain(value)}" for name, value in getattr(record, "fields", {}).items())
        text = f"{moment} {level} {record.getMessage()}" + (f"  {fields}" if fields else "")
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def _plain(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    escaped = text.encode("unicode_escape").decode() if not text.isprintable() else text
    return f'"{escaped}"' if " " in escaped or not escaped else escaped


def configure_logs(settings: ObservabilitySettings, stream: TextIO | None = None) -> None:
    """Send the logs of this process to `stream` (standard error by default)."""
    stream = stream or sys.stderr
    form: Literal["auto", "json", "console"] = settings.log_format
    if form == "auto":
        form = "console" if stream.isatty() else "json"
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if form == "json" else ConsoleFormatter(colour=stream.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for noisy in ("uvicorn", "uvicorn.error", "uvicorn.access", "httpx", "httpcore", "PIL", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
