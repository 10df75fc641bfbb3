"""Find every fault of a value against a msgspec type, where msgspec itself stops at the first.

Used where people read the answer (settings files, request bodies); the hot path decodes with msgspec alone
and comes here only after it has failed.
"""

import difflib
import itertools
import types
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from sluicegate.errors import Fault

MOST_FAULTS = 20
LONGEST_NAME = 80
"""Most characters of a caller's own word that a message repeats."""


def did_you_mean(word: str, known: Collection[str]) -> str | None:
    """A suggestion such as ``did you mean "port"?``, or the known words when none is near and they are few."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f'did you mean "{near[0]}"?'
    return f"known: {', '.join(sorted(known))}" if 0 < len(known) <= 24 else None


def find_faults(value: Any, kind: Any, path: str = "", *, lax: Collection[str] = ()) -> list[Fault]:
    """The faults of `value` (plain dicts, lists and scalars) as a `kind`; empty when it converts.

    At most `MOST_FAULTS` are looked for, so that a hostile value costs little. `lax` holds the paths whose value
    came as text (the environment) and may be converted from it.
    """
    try:
        found = list(itertools.islice(_faults(value, kind, path, lax), MOST_FAULTS + 1))
    except RecursionError:
        return [Fault(path, "nested too deeply")]
    if len(found) > MOST_FAULTS:
        found[MOST_FAULTS:] = [Fault(path, f"there are more faults than these {MOST_FAULTS}")]
    return found


def _faults(value: Any, kind: Any, path: str, lax: Collection[str]) -> Iterator[Fault]:
    error = _refusal(value, kind, strict=path not in lax)
    if error is None:
        return
    annotated, kind = kind, _plain(kind)
    if _is_struct(kind):
        if not isinstance(value, Mapping):
            yield Fault(path, f"expected a table of fields, got {_show(value)}")
            return
        yield from _struct_faults(value, kind, path, lax)
        return
    if _is_inside(error):
        is_own = True
        for inner_path, item, inner in _items(value, kind, path):
            for fault in _faults(item, inner, inner_path, lax):
                is_own = False
                yield fault
        if not is_own or (_holds_text(path, lax) and _refusal(value, kind, strict=False) is None):
            return
    yield Fault(_within(path, str(error)), f"{_reason(error)}, got {_show(value)}", _mend(value, annotated))


def _refusal(value: Any, kind: Any, *, strict: bool) -> msgspec.ValidationError | None:
    """msgspec's own first fault, or None when the value converts."""
    try:
        msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        return error
    return None


def _holds_text(path: str, lax: Collection[str]) -> bool:
    """Whether something below `path` came as text and may be converted from it."""
    return any(inner.startswith(f"{path}.") for inner in lax)


def _is_inside(error: msgspec.ValidationError) -> bool:
    """Whether msgspec names a place inside the value rather than the value itself (its length, its type)."""
    return " - at `" in str(error)


def _items(value: Any, kind: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Path, value and type of each item of a container of structs; nothing for any other type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (list, tuple) and _holds_struct(arguments[0]) and isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield f"{path}[{index}]", item, arguments[0]
    if origin is dict and _holds_struct(arguments[1]) and isinstance(value, Mapping):
        for key, item in value.items():
            yield _join(path, str(key)), item, arguments[1]


def _struct_faults(
    value: Mapping[str, Any], kind: type[msgspec.Struct], path: str, lax: Collection[str]
) -> Iterator[Fault]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    if kind.__struct_config__.forbid_unknown_fields:
        for name in value:
            if name not in fields:
                yield Fault(_join(path, str(name)), "unknown field", did_you_mean(str(name), fields))
    for name, field in fields.items():
        if name in value:
            yield from _faults(value[name], field.type, _join(path, name), lax)
        elif field.required:
            yield Fault(_join(path, name), "required, but absent")


def _plain(kind: Any) -> Any:
    """The type without the Annotated and the Optional around it."""
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if get_origin(bare) in (Union, types.UnionType):
        members = [member for member in get_args(bare) if member is not type(None)]
        if len(members) == 1:
            return _plain(members[0])
    return bare


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _holds_struct(kind: Any) -> bool:
    return _is_struct(_plain(kind))


def _join(path: str, name: str) -> str:
    name = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"
    return f"{path}.{name}" if path else name


def _within(path: str, message: str) -> str:
    """Append the place that msgspec names inside the value, for example ``[2]``."""
    _, found, inner = message.rpartition(" - at `$")
    return path + inner.removesuffix("`") if found else path


_ENUM = "Invalid enum value"


def _reason(error: msgspec.ValidationError) -> str:
    reason = str(error).rpartition(" - at `")[0] or str(error)
    if reason.startswith(_ENUM):
        return "not an allowed value"
    if " matching regex " in reason:
        return "not of the right form"
    reason = reason.partition(", got ")[0]
    return reason[:1].lower() + reason[1:].replace("`", "")


def _show(value: Any) -> str:
    """A scalar, cut when it is long; of a container only what it is: it may be huge, or hold what is private."""
    if isinstance(value, Mapping):
        return f"an object of {len(value)} fields"
    if isinstance(value, list | tuple):
        return f"an array of {len(value)} items"
    if isinstance(value, str) and len(value) > LONGEST_NAME:
        value = f"{value[:LONGEST_NAME]}…"
    return msgspec.json.encode(value, enc_hook=repr).decode()


def _mend(value: Any, kind: Any) -> str | None:
    """The hint that the annotation carries, or the words and numbers that a Literal allows."""
    for part in _parts(kind):
        if isinstance(part, msgspec.Meta) and part.extra and "hint" in part.extra:
            return str(part.extra["hint"])
    words = [part for part in _parts(kind) if isinstance(part, str | int)]
    if not words:
        return None
    texts = [word for word in words if isinstance(word, str)]
    if texts and isinstance(value, str):
        return did_you_mean(value, texts)
    return f"allowed: {', '.join(map(str, words))}"


def _parts(kind: Any) -> Iterator[Any]:
    for argument in get_args(kind):
        if isinstance(argument, str | int | msgspec.Meta):
            yield argument
        else:
            yield from _parts(argument)
