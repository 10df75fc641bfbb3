"""``/api/chat/ws``: the exchange of ``POST /api/chat``, many of them on one WebSocket.

The caller says, in text messages of JSON:

    {"type": "chat", "requestId": …, and the fields of POST /api/chat}      `type` and `requestId` may be left out
    {"type": "cancel", "requestId": …}

and hears of each exchange

    {"requestId", "event", "data"}      chat.completion.chunk …, then chat.completion.done; or chat.completion; or error

A bad message is answered with an error and ends nothing. The socket's end ends every exchange on it at once.
"""

import asyncio
from collections import deque
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta
from starlette.websockets import WebSocket, WebSocketDisconnect

from sluicegate.domain.ids import SANE_REQUEST_ID, RequestId, new_request_id
from sluicegate.domain.principal import Principal
from sluicegate.doors.chat.chat import SimpleChatRequest, SimpleChatRoute
from sluicegate.doors.chat.message_call import PATH, MessageCall
from sluicegate.doors.decoding import BodyDecoder
from sluicegate.doors.lane.lane import Lane
from sluicegate.doors.problems import render_error
from sluicegate.doors.websocket_endpoint import SocketCall, WebSocketEndpoint
from sluicegate.errors import ExchangeCanceled, Fault, InvalidInput, MalformedBody, SluicegateError, UnknownStream

_MOST_UNSENT = 65_536
"""Bytes that wait for the socket above which backends are paused."""
_MOST_UNREAD = 1_048_576
"""Bytes that wait for the socket, above which the caller is not heard; below it may still cancel."""
_MOST_OWED = 1_000
"""Answers to bad messages that wait for the socket, above which the caller is not heard."""
_LONGEST_ID = 128

SaneId = Annotated[str, Meta(pattern=SANE_REQUEST_ID)]


class ChatMessage(SimpleChatRequest, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Start an exchange."""

    type: Literal["chat"] = "chat"
    request_id: SaneId | None = None


class CancelMessage(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """End an exchange of this socket."""

    type: Literal["cancel"]
    request_id: SaneId


class _Envelope(msgspec.Struct, frozen=True, rename="camel"):
    """What every message may have, whatever else is wrong with it."""

    type: Any = "chat"
    request_id: Any = None


_decode_envelope = BodyDecoder(_Envelope)
_decode_chat = BodyDecoder(ChatMessage)
_decode_cancel = BodyDecoder(CancelMessage)


class _Words(NamedTuple):
    """A message that waits for the socket: its text and the bytes of that."""

    text: str
    size: int
    owed: bool


class ChatSocketDoor:
    """Serves chat over WebSockets."""

    def __init__(self, lane: Lane, route: SimpleChatRoute) -> None:
        self._lane = lane
        self._route = route

    def sockets(self) -> list[WebSocketEndpoint]:
        """The WebSockets of this door."""
        return [
            WebSocketEndpoint(
                path=PATH,
                handler=self.talk,
                dialect="chat",
                tag="Chat API",
                summary="Chat over a WebSocket, several calls at once",
            )
        ]

    async def talk(self, call: SocketCall) -> None:
        """Serve one socket to its end."""
        await _Conversation(self._lane, self._route, call.socket, call.principal).run()


class _Conversation:
    """One socket: hears messages, starts exchanges, and sends what they say while the caller takes it."""

    def __init__(self, lane: Lane, route: SimpleChatRoute, socket: WebSocket, principal: Principal) -> None:
        self.lane = lane
        self._route = route
        self._socket = socket
        self.principal = principal
        self.is_over = False
        self._exchanges: dict[RequestId, MessageCall] = {}
        self._unsent: deque[_Words] = deque()
        self._unsent_bytes = 0
        self._owed = 0
        self._is_paused = False
        self._has_words = asyncio.Event()
        self._may_hear = asyncio.Event()
        self._may_hear.set()

    async def run(self) -> None:
        """Until the caller leaves, or the gateway stops."""
        await self._socket.accept()
        speaking = asyncio.create_task(self._speak())
        try:
            while (message := await self._socket.receive())["type"] == "websocket.receive":
                self._hear(message["text"])
                await self._may_hear.wait()
        finally:
            self.is_over = True
            for exchange in list(self._exchanges.values()):
                exchange.caller_left()
            speaking.cancel()
            await asyncio.wait({speaking})

    def say(self, request_id: RequestId | None, event: bytes, data: bytes, *, owed: bool = False) -> None:
        """Send an event, as soon as the caller takes it; `data` is JSON. `owed`: as the answer to a bad message."""
        text = b'{"requestId":%b,"event":"%b","data":%b}' % (msgspec.json.encode(request_id), event, data)
        self._unsent.append(_Words(text.decode(), len(text), owed))
        self._unsent_bytes += len(text)
        self._owed += owed
        self._has_words.set()
        if self._unsent_bytes > _MOST_UNSENT and not self._is_paused:
            self._is_paused = True
            for exchange in self._exchanges.values():
                exchange.pause()
        if self._owed > _MOST_OWED or self._unsent_bytes > _MOST_UNREAD:
            self._may_hear.clear()

    def say_error(self, request_id: RequestId | None, error: SluicegateError, *, owed: bool = False) -> int:
        """Send the event for an error, in the words of HTTP's answer; the status of that answer."""
        status, _, body = render_error(error, "chat", request_id or "")
        told = msgspec.json.decode(body)
        data = {"code": told["error"], "message": told["message"]}
        if told["details"]:
            data["details"] = told["details"]
        if error.retry_after is not None:
            data["retryAfter"] = error.retry_after
        self.say(request_id, b"error", msgspec.json.encode(data), owed=owed)
        return status

    def forget(self, request_id: RequestId) -> None:
        """The exchange is over."""
        self._exchanges.pop(request_id, None)

    def _hear(self, text: str | None) -> None:
        request_id: RequestId | None = None
        try:
            if text is None:
                raise MalformedBody("a binary message came; send text messages, each a JSON object")
            body = text.encode()
            envelope = _decode_envelope(body)
            if isinstance(envelope.request_id, str) and len(envelope.request_id) <= _LONGEST_ID:
                request_id = RequestId(envelope.request_id)
            if envelope.type == "cancel":
                self._cancel(RequestId(_decode_cancel(body).request_id))
            elif envelope.type == "chat":
                asked = _decode_chat(body)
                request_id = request_id or new_request_id()
                self._start(asked, request_id)
            else:
                raise InvalidInput.of(Fault("type", "neither of the kinds of message", 'send "chat" or "cancel"'))
        except SluicegateError as error:
            self.say_error(request_id, error, owed=True)

    def _start(self, asked: ChatMessage, request_id: RequestId) -> None:
        """Begin an exchange. Raises as `RelayCall.start` does."""
        exchange = MessageCall(self, request_id)
        exchange.start(self._route.order_of(asked, self.principal, request_id))
        if exchange.is_over:
            return
        self._exchanges[request_id] = exchange
        if self._is_paused:
            exchange.pause()

    def _cancel(self, request_id: RequestId) -> None:
        exchange = self._exchanges.get(request_id)
        if exchange is None:
            raise UnknownStream(f'no exchange "{request_id}" runs on this socket; it is unknown or over')
        exchange.stop(ExchangeCanceled("the call was cancelled"))

    async def _speak(self) -> None:
        """Send what is said; waits while the caller takes nothing."""
        try:
            while True:
                self._has_words.clear()
                while self._unsent:
                    words = self._unsent.popleft()
                    await self._socket.send_text(words.text)
                    self._unsent_bytes -= words.size
                    self._owed -= words.owed
                    self._look_for_room()
                await self._has_words.wait()
        except WebSocketDisconnect:
            self.is_over = True
            self._may_hear.set()

    def _look_for_room(self) -> None:
        if self._owed <= _MOST_OWED and self._unsent_bytes <= _MOST_UNREAD:
            self._may_hear.set()
        if self._is_paused and self._unsent_bytes <= _MOST_UNSENT:
            self._is_paused = False
            for exchange in list(self._exchanges.values()):
                if self._is_paused:
                    break
                exchange.resume()
