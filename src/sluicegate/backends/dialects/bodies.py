"""Reading JSON: what callers send, with every fault named, and what backends answer."""

from typing import Any, TypeVar

import msgspec

from sluicegate.domain.validation import find_faults
from sluicegate.errors import BackendFailed, Fault, InvalidInput, MalformedBody

T = TypeVar("T", bound=msgspec.Struct)


def read_request(body: bytes, kind: type[T]) -> tuple[T, dict[str, msgspec.Raw]]:
    """A caller's body as a `kind`, and its fields as they were written.

    Raises `MalformedBody` when it is no JSON object and `InvalidInput` with every fault.
    """
    if not body.strip():
        raise MalformedBody("the body is empty; send a JSON object")
    try:
        return msgspec.json.decode(body, type=kind), msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError as error:
        raise _invalid(body, kind, error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(error) from None
    except RecursionError:
        raise MalformedBody("the JSON is nested too deeply") from None


def read_answer(payload: bytes, kind: type[T], dialect: str) -> T:
    """A backend's JSON as a `kind`. Raises `BackendFailed` when it is something else."""
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BackendFailed(f"the backend sent what is no answer of {dialect}'s dialect: {error}") from None


def _invalid(body: bytes, kind: type[T], error: msgspec.ValidationError) -> MalformedBody | InvalidInput:
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as broken:
        return _malformed(broken)
    except RecursionError:
        return MalformedBody("the JSON is nested too deeply")
    return InvalidInput.of(*(find_faults(value, kind) or [Fault("", str(error))]))


def _malformed(error: Exception) -> MalformedBody:
    return MalformedBody(f"the body is not valid JSON: {error}")
