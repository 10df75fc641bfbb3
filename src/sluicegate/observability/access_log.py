"""The access log: one line for each request, at a cost that 30 000 requests a second can bear.

request ─▶ a struct in the list of the JSON handler ─▶ encoded and written together:
                                                       after 100 ms, at 256 lines (about 64 KB), before any other log
                                                       line of this process, at `close`, and when the program ends

Where lines go elsewhere than to our JSON handler alone (console form, a handler of somebody else), each is an ordinary
log record.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from sluicegate.observability.logs import AccessLine, JsonFormatter, LineHandler, Log, stamp

FLUSH_SECONDS = 0.1
_MOST_LINES = 256
_NAME = "sluicegate.access"


class AccessLog:
    """Writes the access log of one process. `now` gives seconds since the epoch."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._log = Log(_NAME)
        self._logger = logging.getLogger(_NAME)
        self._handler: LineHandler | None = None
        self._millisecond = -1
        self._stamp = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def request(  # noqa: PLR0917 - keywords would cost as much as the rest of it
        self, tenant: str, method: str, route: str, status: int, seconds: float, request_id: str
    ) -> None:
        """One request was answered after `seconds`. Call it on the event loop's thread."""
        handler = self._handler
        if handler is None or not handler.collected:
            handler = self._handler = self._begin()
            if handler is None:
                if self._logger.isEnabledFor(logging.INFO):
                    self._log.info(
                        "request",
                        tenant=tenant,
                        method=method,
                        route=route,
                        status=status,
                        duration_ms=round(seconds * 1000, 2),
                        request_id=request_id,
                    )
                return
        now = self._now()
        if int(now * 1000) != self._millisecond:
            self._set_stamp(now)
        duration = int(seconds * 100_000 + 0.5) / 100
        lines = handler.collected
        lines.append(
            AccessLine(self._stamp, "info", _NAME, "request", tenant, method, route, status, duration, request_id)
        )
        if len(lines) >= _MOST_LINES:
            self._flush()

    def close(self) -> None:
        """Write what is collected; the log can be used again afterwards."""
        if self._timer is not None:
            self._timer.cancel()
        self._flush_in_time()

    def _begin(self) -> LineHandler | None:
        """Where the next lines are collected, and will be written in time; None where each is to be logged singly."""
        handler = _collector_of(self._logger)
        if handler is None:
            return None
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return None
        if self._timer is None or self._loop is not loop:
            self._loop = loop
            self._timer = loop.call_later(FLUSH_SECONDS, self._flush_in_time)
        return handler

    def _flush_in_time(self) -> None:
        self._timer = None
        self._flush()

    def _flush(self) -> None:
        if self._handler is not None:
            with contextlib.suppress(OSError, ValueError):  # the stream is closed or broken: nobody can be told
                self._handler.flush()

    def _set_stamp(self, now: float) -> None:
        self._millisecond = int(now * 1000)
        self._stamp = stamp(now)


def _collector_of(logger: logging.Logger) -> LineHandler | None:
    """Our JSON handler, where it and nothing else would handle and render an info line of the logger."""
    if not logger.isEnabledFor(logging.INFO) or logger.filters:
        return None
    handlers: list[logging.Handler] = []
    at: logging.Logger | None = logger
    while at is not None:
        handlers += [handler for handler in at.handlers if not isinstance(handler, logging.NullHandler)]
        at = at.parent if at.propagate else None
    match handlers:
        case [LineHandler(formatter=JsonFormatter(), level=level, filters=[]) as handler] if level <= logging.INFO:
            return handler
    return None
