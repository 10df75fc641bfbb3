"""Forms with files in them (multipart/form-data, RFC 7578), read within limits and only when whole."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from sluicegate.domain.validation import find_faults
from sluicegate.doors.endpoint import Call
from sluicegate.errors import Fault, InvalidInput, MalformedBody, StoreUnavailable

T = TypeVar("T")

FORM = "multipart/form-data"
_CHUNK = 65_536
_MOST_TEXT_BYTES = 262_144
"""Of one text field."""
_TAIL = 16


def content_kind(call: Call) -> str:
    """The media type of the body, in small letters and without parameters."""
    return call.headers.get("content-type", "").partition(";")[0].strip().lower()


@asynccontextmanager
async def open_form(call: Call, *, max_bytes: int, max_files: int, max_fields: int) -> AsyncIterator[FormData]:
    """The form of a call; its files lie on disk when they are large, and are gone at the end.

    Raises `MalformedBody` for what is no whole form, `StoreUnavailable` without room, and as `Call.pieces` does.
    """
    try:
        end = _Tail(call.pieces(max_bytes, "server.max_upload_bytes"))
        parser = MultiPartParser(
            call.headers, end.pieces(), max_files=max_files, max_fields=max_fields, max_part_size=_MOST_TEXT_BYTES
        )
        form = await parser.parse()
    except MultiPartException as error:
        raise MalformedBody(f"the form cannot be read: {error.message}") from None
    except OSError as error:
        raise StoreUnavailable(f"there is no room for the upload: {error.strerror}") from error
    try:
        if not end.is_closed:
            raise MalformedBody("the form ended early: its closing boundary is missing")
        yield form
    finally:
        await form.close()


async def file_pieces(file: UploadFile) -> AsyncGenerator[bytes, None]:
    """The bytes of a form's file."""
    while piece := await file.read(_CHUNK):
        yield piece


def decode_fields(values: Mapping[str, str], kind: type[T]) -> T:
    """The text fields of a form as a `kind`, converted; an empty one counts as absent.

    Raises `InvalidInput` with every fault.
    """
    given = {name: value for name, value in values.items() if value}
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        paths = {field.encode_name for field in msgspec.structs.fields(kind)}  # type: ignore[arg-type]
        raise InvalidInput.of(*(find_faults(given, kind, lax=paths) or [Fault("", str(error))])) from None


class _Tail:
    """Watches the pieces of a form go by and remembers whether the last of them closed it."""

    def __init__(self, source: AsyncGenerator[bytes, None]) -> None:
        self._source = source
        self._tail = b""

    @property
    def is_closed(self) -> bool:
        """Whether the body ended with a closing boundary (RFC 2046: two hyphens)."""
        return self._tail.rstrip().endswith(b"--")

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The pieces, unchanged."""
        async for piece in self._source:
            self._tail = (self._tail + piece)[-_TAIL:]
            yield piece
