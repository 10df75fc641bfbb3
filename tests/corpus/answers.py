"""Read a server's answers strictly: whatever is not HTTP/1.1 is kept as junk."""

import re
from collections.abc import Collection
from dataclasses import dataclass

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3}) [^\r\n]*")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\r\n\x00]*?)[ \t]*")
_HEX = re.compile(rb"[0-9a-fA-F]{1,8}")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: its status, its fields by name in small letters, its body."""

    status: int
    fields: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answers:
    """What came back on one connection."""

    interim: tuple[int, ...]
    """Statuses below 200."""
    final: tuple[Answer, ...]
    junk: bytes
    """What is left: an answer cut short, or no answer at all."""


def read_answers(data: bytes, *, ended: bool, bodiless: Collection[int] = ()) -> Answers:
    """Read `data`; `ended` tells that nothing follows, `bodiless` which final answers are to HEAD."""
    interim: list[int] = []
    final: list[Answer] = []
    while data:
        found = _read_one(data, ended=ended, bodiless=len(final) in bodiless)
        if found is None:
            break
        answer, data = found
        if answer.status < 200:
            interim.append(answer.status)
        else:
            final.append(answer)
    return Answers(tuple(interim), tuple(final), data)


def _read_one(data: bytes, *, ended: bool, bodiless: bool) -> tuple[Answer, bytes] | None:
    head, end, rest = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    status_line = _STATUS_LINE.fullmatch(lines[0])
    fields = [_FIELD.fullmatch(line) for line in lines[1:]]
    if not end or status_line is None or None in fields:
        return None
    status = int(status_line.group(1))
    named = {str(each.group(1), "ascii").lower(): str(each.group(2), "latin-1") for each in fields if each}
    if bodiless or status < 200 or status in (204, 304):
        return Answer(status, named, b""), rest
    if "chunked" in named.get("transfer-encoding", ""):
        body = _read_chunks(rest)
    elif "content-length" in named:
        size = int(named["content-length"])
        body = (rest[:size], rest[size:]) if len(rest) >= size else None
    else:
        body = (rest, b"") if ended else None
    return None if body is None else (Answer(status, named, body[0]), body[1])


def _read_chunks(data: bytes) -> tuple[bytes, bytes] | None:
    body = b""
    while True:
        size_line, end, rest = data.partition(b"\r\n")
        if not end or not _HEX.fullmatch(size_line):
            return None
        size = int(size_line, 16)
        if rest[size : size + 2] != b"\r\n":
            return None
        body, data = body + rest[:size], rest[size + 2 :]
        if size == 0:
            return body, data
