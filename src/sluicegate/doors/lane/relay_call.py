"""One call: from the choice of a backend to its end.

                 ┌────────────── another backend, before the first byte ──────────────┐
                 ▼                                                                    │
    start ──▶ WAITING ──a backend has room──▶ ASKED ──head──▶ RELAYING ──end──▶ ENDED │
                 │                              │  └──no connection─────────────────────┘
                 │                              │                  │
                 └──── caller left, stopped, failed (told) ────────┴─────────▶ ENDED

Nothing here waits and no task runs, unless a backend has to be waited for. From `stop` and `caller_left` on, whatever
the state, the backend's connection is closed at once, which frees the backend.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from sluicegate.backends.backend import (
    AnswerHead,
    ChatBackend,
    ChatCall,
    UpstreamCall,
    WholeAnswerSink,
    WireDialect,
)
from sluicegate.backends.dialects.translation import Translation
from sluicegate.doors.lane.exchanges import Ending
from sluicegate.doors.lane.orders import HEARTBEAT_SECONDS, Order
from sluicegate.doors.lane.refusals import MOST_ERROR_BYTES, read_refusal, reason_of
from sluicegate.doors.lane.scan import TokenScan, told_total
from sluicegate.doors.problems import unforeseen
from sluicegate.errors import BackendError, BackendFailed, BackendUnavailable, SluicegateError
from sluicegate.observability.logs import Log
from sluicegate.scheduling.balancer import MOST_TRIES, Search

LEFT = 499
"""The status of an answer whose caller left before it, as nginx has it."""
_log = Log("sluicegate.lane")

if TYPE_CHECKING:
    from sluicegate.doors.lane.lane import Lane


class RelayCall(WholeAnswerSink, ABC):
    """Relays one order. Fulfils `AnswerSink` towards the backend and `Exchange` towards who cancels by id; an heir is
    the caller's side."""

    __slots__ = (
        "_backend",
        "_dialect",
        "_error_body",
        "_error_head",
        "_has_spoken",
        "_is_begun",
        "_is_ended",
        "_is_paused",
        "_lane",
        "_may_be_cut",
        "_next_beat",
        "_scan",
        "_search",
        "_translation",
        "_upstream",
        "_waiting",
        "order",
        "started",
    )
    order: Order
    """There from `start` on."""

    def __init__(self, lane: "Lane") -> None:
        self._lane = lane
        self.started = time.perf_counter()
        self._backend: ChatBackend | None = None
        self._dialect: WireDialect = "openai"
        """In which the backend was asked."""
        self._upstream: UpstreamCall | None = None
        self._search: Search | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._translation: Translation | None = None
        self._scan: TokenScan | None = None
        """There from the first piece on."""
        self._error_head: AnswerHead | None = None
        self._error_body = b""
        self._is_begun = False
        self._is_ended = True
        """Whether nothing runs."""
        self._may_be_cut = False
        """Whether events are passed on whose end nothing tells but the end of the connection."""
        self._is_paused = False
        self._has_spoken = True
        self._next_beat = 0.0

    @property
    def ends_an_event(self) -> bool:
        """Whether what was passed on so far ends where an event ends."""
        return self._translation is not None or self._scan is None or self._scan.ends_an_event

    # --- for the heir to write ---

    @abstractmethod
    def begin(self, content_type: str, length: int | None) -> None:
        """The answer begins. `length`: bytes of the body, where they are known."""

    @abstractmethod
    def piece(self, data: bytes) -> None:
        """Some of the answer; never empty."""

    def whole(self, content_type: str, data: bytes) -> None:
        """The answer, all of it."""
        self.begin(content_type, len(data))
        if data:
            self.piece(data)

    @abstractmethod
    def end(self, error: SluicegateError | None) -> None:
        """The call is over; `error` when it failed. Called once for every call that was started, perhaps without
        `begin`, also when the caller has left."""

    # --- the caller's side ---

    def start(self, order: Order) -> None:
        """Begin. Raises `Overloaded`, `Draining` or `Conflict` before anything has begun."""
        self.order = order
        self._lane.exchanges.enter(order.principal.tenant, order.request_id, self)
        self._is_ended = False
        if order.stream and order.wording.heartbeat:
            self._lane.wheel.add(self)
        backend = self._lane.balancer.take_now(order.model)
        if backend is None:
            self._search_backend(None)
        else:
            self._ask(backend)

    def pause(self) -> None:
        """The caller takes less than comes."""
        self._is_paused = True
        if self._upstream is not None:
            self._upstream.pause()

    def resume(self) -> None:
        """Undo `pause`."""
        self._is_paused = False
        if self._upstream is not None:
            self._upstream.resume()

    def caller_left(self) -> None:
        """Nobody takes the answer any more."""
        if not self._is_ended:
            self._end("cancelled")

    def stop(self, reason: SluicegateError) -> None:
        """See `Exchange.stop`."""
        if not self._is_ended:
            self._end("cancelled", reason)

    def tick(self, now: float) -> None:
        """Keep a silent stream alive; see `Timed.tick`."""
        if self._has_spoken:
            self._has_spoken = False
            self._next_beat = now + HEARTBEAT_SECONDS
        elif now >= self._next_beat and self._error_head is None and not self._is_paused:
            self._next_beat = now + HEARTBEAT_SECONDS
            if self.ends_an_event:
                self._beat()

    # --- the backend's side ---

    def answer_begun(self, head: AnswerHead) -> None:
        """See `AnswerSink.answer_begun`."""
        if head.status != 200:
            self._error_head = head
            return
        order = self.order
        translation = self._translation = None if order.translation is None else order.translation(self._dialect)
        if self._is_begun:
            return
        self._is_begun = True
        if translation is None:
            self._may_be_cut = not head.is_framed and head.content_type.startswith("text/event-stream")
            self.begin(head.content_type, head.length)
        elif order.stream and not head.content_type.startswith(("text/event-stream", "application/x-ndjson")):
            self._is_begun = False
            told = head.content_type[:80]
            self._failed(BackendFailed(f'the backend sent "{told}" where events were asked for'))
        else:
            self.begin(translation.content_type, None)

    def answer_piece(self, data: bytes) -> None:
        """See `AnswerSink.answer_piece`."""
        if self._error_head is not None:
            self._error_body += data
            if len(self._error_body) > MOST_ERROR_BYTES:
                self._end("error", self._refusal())
            return
        scan = self._scan
        if scan is None:
            scan = self._scan = TokenScan()
            if self.order.stream:
                self._saw_first()
        self._has_spoken = True
        scan.feed(data)
        if self._translation is None:
            self.piece(data)
        else:
            self._translate(self._translation, data)

    def answer_ended(self) -> None:
        """See `AnswerSink.answer_ended`."""
        self._upstream = None
        if self._error_head is not None:
            self._end("error", self._refusal())
            return
        if self._translation is not None:
            self._finish(self._translation)
        elif self._may_be_cut and self._scan is not None and not self._scan.is_complete:
            self._failed(BackendFailed("the backend ended its answer in the middle of an event"))
        else:
            self._end("completed")

    def answer_came(self, head: AnswerHead, body: bytes) -> None:
        """See `WholeAnswerSink.answer_came`."""
        order = self.order
        if head.status == 200 and order.translation is None and not self._is_begun:
            self._upstream = None
            self._is_begun = True
            tokens = told_total(body)
            if order.stream and body:
                self._saw_first()
                if tokens is None:
                    scan = TokenScan()
                    scan.feed(body)
                    tokens = scan.total(streamed=True)
            self.whole(head.content_type, body)
            self._end("completed", tokens=tokens or 0)
            return
        self.answer_begun(head)
        if body and not self._is_ended:
            self.answer_piece(body)
        if not self._is_ended:
            self.answer_ended()

    def answer_failed(self, error: BackendError) -> None:
        """See `AnswerSink.answer_failed`."""
        self._upstream = None
        if isinstance(error, BackendUnavailable) and not self._is_begun and self._error_head is None:
            self._search_backend(error)
        else:
            self._failed(error)

    # --- between them ---

    def _ask(self, backend: ChatBackend) -> None:
        """Send the call to a backend that was taken for it."""
        order = self.order
        self._backend = backend
        try:
            dialect = self._dialect = order.native if order.native in backend.dialects else "openai"
            form = order.form
            call = form if isinstance(form, ChatCall) else form(dialect)
            upstream = self._upstream = backend.send(call, self)
        except BackendUnavailable as error:
            self._search_backend(error)
        except SluicegateError as error:
            self._failed(error)
        except Exception:
            self._blunder("a call could not be sent")
        else:
            if self._is_paused:
                upstream.pause()

    def _search_backend(self, error: BackendUnavailable | None) -> None:
        """Look for a backend, or for another one after `error`, and wait for it where that is worth it."""
        search = self._search
        if search is None:
            search = self._search = Search(self.order.model)
        if error is not None and self._backend is not None:
            error.backend = self._backend.name
            search.refused[self._backend.name] = error.message
            search.tries += 1
            self._release()
            if search.tries >= MOST_TRIES:
                error.retry_after = error.retry_after or 1.0
                self._failed(error)
                return
        self._waiting = self._lane.loop.create_task(self._wait_for_backend(search))

    async def _wait_for_backend(self, search: Search) -> None:
        try:
            backend = await self._lane.balancer.take(search)
        except SluicegateError as error:
            self._waiting = None
            self._failed(error)
            return
        self._waiting = None
        self._ask(backend)

    def _translate(self, translation: Translation, data: bytes) -> None:
        try:
            said = translation.feed(data)
            if said:
                self.piece(said)
                # A fault behind what could still be said is raised by the next call.
                translation.feed(b"")
        except BackendError as error:
            self._failed(error)
        except Exception:
            self._blunder("an answer could not be translated")

    def _finish(self, translation: Translation) -> None:
        try:
            said = translation.finish()
        except BackendError as error:
            self._failed(error)
        except Exception:
            self._blunder("an answer could not be translated")
        else:
            if said:
                self.piece(said)
            self._end("completed")

    def _blunder(self, event: str) -> None:
        """Our own fault; the exception is being handled."""
        name = self._backend.name if self._backend is not None else ""
        _log.error(event, trace=True, backend=name, request_id=self.order.request_id)
        self._failed(unforeseen())

    def _failed(self, error: SluicegateError) -> None:
        if self._is_ended:
            return
        if isinstance(error, BackendError):
            if not error.backend and self._backend is not None:
                error.backend = self._backend.name
            if error.backend:
                # Without a backend the model may be the caller's invention.
                labels = (error.backend, self.order.model, reason_of(error))
                self._lane.metrics.backend_errors.labels(*labels).value += 1
        self._end("error", error)

    def _refusal(self) -> BackendError:
        head, backend = self._error_head, self._backend
        assert head is not None
        assert backend is not None
        error = read_refusal(backend.name, head, self._error_body[:MOST_ERROR_BYTES])
        error.backend = backend.name
        self._lane.metrics.backend_errors.labels(backend.name, self.order.model, reason_of(error)).value += 1
        return error

    def _saw_first(self) -> None:
        self._lane.tallies_of(self.order.model).first_token.observe(time.perf_counter() - self.started)

    def _beat(self) -> None:
        """Say something that means nothing. A stream that has not begun begins: later errors are told inside it."""
        wording = self.order.wording
        if not self._is_begun:
            self._is_begun = True
            self.begin(wording.content_type, None)
        self.piece(wording.heartbeat)

    def _release(self) -> None:
        """Give the backend's place back."""
        backend, self._backend = self._backend, None
        if backend is not None:
            self._lane.balancer.release(backend, self.order.model)

    def _end(self, ending: Ending, error: SluicegateError | None = None, *, tokens: int = 0) -> None:
        """The call is over, in whatever way. `tokens` are those that the scan has not seen."""
        self._is_ended = True
        lane, order = self._lane, self.order
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.cancel()
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if order.stream:
            lane.wheel.discard(self)
        if self._backend is not None:
            tallies = lane.models.get(order.model) or lane.tallies_of(order.model)
            tallies.inference.observe(time.perf_counter() - self.started)
            if self._scan is not None:
                tokens = self._scan.total(streamed=order.stream)
            tallies.tokens.value += tokens
            lane.balancer.release(self._backend, order.model)
            self._backend = None
        lane.exchanges.leave(order.principal.tenant, order.request_id, ending)
        self.end(error)
