"""The frames of one WebSocket, and the messages that they make."""

import logging

from starlette.types import Message
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

_MESSAGE_COST = 256
"""Bytes that a message takes in memory besides its text, so that empty ones count too."""
_DATA = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.CONT})
_log = logging.getLogger(__name__)


class _Warnings(logging.LoggerAdapter[logging.Logger]):
    """The library's log without its frames, which hold what callers wrote, and without a line for each socket."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - named by the base class
        """Whether lines of this level are written."""
        return level >= logging.WARNING and super().isEnabledFor(level)


def open_protocol(most_bytes: int) -> ServerProtocol:
    """The framing of a WebSocket whose handshake is over; `most_bytes` is the longest message."""
    return ServerProtocol(state=OPEN, max_size=most_bytes, logger=_Warnings(_log))


class Assembler:
    """Puts frames together to ASGI's messages."""

    def __init__(self) -> None:
        self._partial = bytearray()
        self._is_text = False

    def take(self, frame: Frame) -> tuple[Message, int] | None:
        """The message that this frame completes, and the bytes that it takes in memory.

        Raises `UnicodeDecodeError` for a text that is none.
        """
        if frame.opcode not in _DATA:
            return None
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        data = frame.data
        if self._partial or not frame.fin:
            self._partial += data
            if not frame.fin:
                return None
            data, self._partial = self._partial, bytearray()
        text = str(data, "utf-8") if self._is_text else None
        whole = None if self._is_text else bytes(data)
        return {"type": "websocket.receive", "text": text, "bytes": whole}, len(data) + _MESSAGE_COST
