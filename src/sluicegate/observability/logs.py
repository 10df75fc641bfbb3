"""Structured logs on the standard library: one event a line, as JSON or for a console.

Fields are keyword arguments: ``log.info("job claimed", job=id)``. Inside a request every line carries its
request id. Callers of this module never pass secrets, prompts or bodies.
"""

import contextlib
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from select import PIPE_BUF
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


def stamp(seconds: float) -> str:
    """A moment, given in seconds since the epoch, as JSON lines tell it: RFC 3339, UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: what is in `mark`, then time (RFC 3339, UTC), level, logger, event, and the fields."""

    def __init__(self, mark: Mapping[str, int] | None = None) -> None:
        super().__init__()
        self._mark = mark or {}

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        line: dict[str, Any] = {
            **self._mark,
            "time": stamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


class ConsoleFormatter(logging.Formatter):
    """Time, level, event and ``name=value`` fields, those of `mark` first, with colours when `colour` is set."""

    def __init__(self, *, colour: bool, mark: Mapping[str, int] | None = None) -> None:
        super().__init__()
        self._colour = colour
        self._mark = mark or {}

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        level = f"{record.levelname.lower():<7}"
        if self._colour:
            level = f"\x1b[{_COLOURS.get(record.levelname, '0')}m{level}\x1b[0m"
        moment = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        told = {**self._mark, **getattr(record, "fields", {})}
        fields = " ".join(f"{name}={_plain(value)}" for name, value in told.items())
        text = f"{moment} {level} {record.getMessage()}" + (f"  {fields}" if fields else "")
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def _plain(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    escaped = text.encode("unicode_escape").decode() if not text.isprintable() else text
    return f'"{escaped}"' if " " in escaped or not escaped else escaped


class AccessLine(msgspec.Struct, frozen=True, gc=False):
    """A line of the access log, its fields as `JsonFormatter` orders them."""

    time: str
    level: str
    logger: str
    event: str
    tenant: str
    method: str
    route: str
    status: int
    duration_ms: float
    request_id: str


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes log lines to a stream, each as it comes, but for those that are `collected` to be written together.

    Collected lines are JSON objects. They go before whatever is written next, so that the order is that of the calls,
    and at the end of the program (`logging.shutdown`).
    """

    def __init__(self, stream: TextIO, mark: Mapping[str, int] | None = None) -> None:
        """`mark` stands at the head of every collected line."""
        super().__init__(stream)
        self._head = b"{" + b"".join(b'"%b":%d,' % (name.encode(), value) for name, value in (mark or {}).items())
        self.collected: list[msgspec.Struct] = []
        """Append to it from any thread; call `flush` in time."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the collected lines, then this one."""
        self._write_collected()
        super().emit(record)

    def flush(self) -> None:
        """Write the collected lines. Those that the stream does not take are lost, as single lines would be."""
        self.acquire()
        try:
            self._write_collected()
            super().flush()
        finally:
            self.release()

    def _write_collected(self) -> None:
        # Other threads append meanwhile: the list stays the same, and only what was seen is taken from it.
        count = len(self.collected)
        if not count:
            return
        lines, self.collected[:count] = self.collected[:count], []
        with contextlib.suppress(OSError, ValueError):
            for piece in _pieces(self._marked(_encode_lines(lines))):
                self.stream.write(piece.decode())

    def _marked(self, lines: bytes) -> bytes:
        return lines if self._head == b"{" else (b"\n" + lines).replace(b"\n{", b"\n" + self._head)[1:]


def _encode_lines(lines: Sequence[msgspec.Struct]) -> bytes:
    try:
        return msgspec.json.Encoder().encode_lines(lines)
    except UnicodeEncodeError:  # half of a surrogate pair, which UTF-8 cannot say
        return b"".join(map(_encode_odd_line, lines))


def _encode_odd_line(line: msgspec.Struct) -> bytes:
    fields = msgspec.structs.asdict(line)
    said = {name: _sayable(value) if isinstance(value, str) else value for name, value in fields.items()}
    return msgspec.json.encode(said) + b"\n"


def _sayable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _pieces(lines: bytes) -> Iterator[bytes]:
    """Whole lines, as many as a pipe takes at once: processes that share a pipe do not cut one another's lines."""
    start = 0
    while start < len(lines):
        end = lines.rfind(b"\n", start, start + PIPE_BUF) + 1 or lines.find(b"\n", start) + 1
        yield lines[start:end]
        start = end


def configure_logs(
    settings: ObservabilitySettings, stream: TextIO | None = None, *, mark: Mapping[str, int] | None = None
) -> None:
    """Send the logs of this process to `stream` (standard error by default), with `mark` at the head of every line."""
    stream = stream or sys.stderr
    form: Literal["auto", "json", "console"] = settings.log_format
    if form == "auto":
        form = "console" if stream.isatty() else "json"
    handler = LineHandler(stream, mark)
    handler.setFormatter(JsonFormatter(mark) if form == "json" else ConsoleFormatter(colour=stream.isatty(), mark=mark))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for noisy in ("httpx", "httpcore", "PIL", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
