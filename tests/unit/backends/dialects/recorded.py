"""Bodies as servers send them, odd ones among them, for the tests of translations.

Ollama's are in the form of its API reference; OpenAI's in those of llama.cpp's server, vLLM, Gemini and OpenAI.
"""

import json
from collections.abc import Iterable
from typing import Any

from sluicegate.backends.dialects.translation import Translation
from sluicegate.errors import BackendFailed


def lines(*values: dict[str, Any]) -> bytes:
    """NDJSON as Go writes it."""
    return b"".join(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n" for value in values)


def events(*values: dict[str, Any], done: bool = True) -> bytes:
    """Server-sent events as most servers write them."""
    told = b"".join(b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n" for value in values)
    return told + (b"data: [DONE]\n\n" if done else b"")


def chat_line(text: str, **more: Any) -> dict[str, Any]:
    """A line of ``/api/chat``."""
    message = {"role": "assistant", "content": text, **more}
    return {"model": "m", "created_at": "2025-10-26T17:21:21.196249Z", "message": message, "done": False}


def text_line(text: str, **more: Any) -> dict[str, Any]:
    """A line of ``/api/generate``."""
    return {"model": "m", "created_at": "2025-10-26T17:21:21.196249Z", "response": text, "done": False, **more}


def outcome(translation: Translation, pieces: Iterable[bytes]) -> tuple[bytes, str]:
    """All that a translation makes of a body, and the words of its failure, if it fails."""
    made = b""
    try:
        for piece in pieces:
            made += translation.feed(piece)
        made += translation.finish()
    except BackendFailed as failure:
        return made, failure.message
    return made, ""


COUNTS: dict[str, Any] = {
    "total_duration": 174560334,
    "load_duration": 101397084,
    "prompt_eval_count": 11,
    "prompt_eval_cached_count": 4,
    "prompt_eval_duration": 13074791,
    "eval_count": 3,
    "eval_duration": 52479709,
}
CHAT_END = {**chat_line(""), "done": True, "done_reason": "stop", **COUNTS}
TEXT_END = {**text_line(""), "done": True, "done_reason": "stop", "context": [1, 2, 3], **COUNTS}


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    """A chunk of ``/v1/chat/completions``."""
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "x", "choices": [choice], **more}


def text_chunk(text: str, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of ``/v1/completions``."""
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
    return {"id": "c", "object": "text_completion", "created": 1, "model": "x", "choices": [choice], **more}


USAGE: dict[str, Any] = {
    "id": "c",
    "choices": [],
    "usage": {
        "prompt_tokens": 11,
        "completion_tokens": 3,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 4},
    },
}
CALL = {"id": "call_1", "function": {"index": 0, "name": "add", "arguments": {"a": 1, "b": [2.50, "ü"]}}}
OLD_CALL = {"function": {"name": "add", "arguments": {}}}
LOGPROBS = [{"token": "Hi", "logprob": -0.5, "top_logprobs": [{"token": "Ho", "logprob": -1.5}]}]


def call_piece(index: int | None, arguments: str, name: str | None = None, id_: str | None = None) -> dict[str, Any]:
    """The delta of a streamed tool call."""
    function = {"arguments": arguments} | ({"name": name} if name else {})
    told: dict[str, Any] = {"function": function} | ({"id": id_, "type": "function"} if id_ else {})
    return {"tool_calls": [told if index is None else {"index": index, **told}]}


OLLAMA_CHATS: dict[str, bytes] = {
    "plain": lines(chat_line("Hel"), chat_line("lo, Zoë 🐑"), CHAT_END),
    "crlf and blank lines": lines(chat_line("Hi"), CHAT_END).replace(b"\n", b"\r\n\r\n"),
    "no last line end": lines(chat_line("Hi"), CHAT_END).rstrip(b"\n"),
    "byte order mark": b"\xef\xbb\xbf" + lines(chat_line("Hi"), CHAT_END),
    "escaped": b'{"message":{"role":"assistant","content":"\\u00e9\\ud83d\\udc11\\n\\u2028"},"done":false}\n'
    + lines(CHAT_END),
    "thinking": lines(chat_line("", thinking="hm"), chat_line("", thinking=" so"), chat_line("Yes"), CHAT_END),
    "tools": lines(chat_line("", tool_calls=[CALL]), chat_line("", tool_calls=[OLD_CALL]), CHAT_END),
    "text in the last line": lines({**CHAT_END, "message": {"role": "assistant", "content": "all"}}),
    "last line without message": lines(chat_line("Hi"), {"model": "m", "done": True, "eval_count": 1}),
    "images null": lines(chat_line("Hi", images=None), CHAT_END),
    "cut by its limit": lines(chat_line("Hi"), {**CHAT_END, "done_reason": "length"}),
    "after the end": lines(chat_line("Hi"), CHAT_END) + b"garbage\n",
    "logprobs": lines({**chat_line("Hi"), "logprobs": LOGPROBS}, CHAT_END),
    "load": lines({**chat_line(""), "done": True, "done_reason": "load"}),
}
OLLAMA_TEXTS: dict[str, bytes] = {
    "plain": lines(text_line("Hel"), text_line("lo, Zoë 🐑"), TEXT_END),
    "thinking": lines(text_line("", thinking="hm"), text_line("Yes"), TEXT_END),
    "logprobs": lines(text_line("Hi", logprobs=LOGPROBS), text_line("Hi", logprobs=LOGPROBS), TEXT_END),
    "no last line end": lines(text_line("Hi"), TEXT_END).rstrip(b"\n"),
}
BROKEN_OLLAMA: dict[str, bytes] = {
    "error in the middle": lines(chat_line("Hi"), {"error": "an error was encountered while running the model"}),
    "error at once": lines({"error": {"message": "out of memory"}}),
    "cut": lines(chat_line("Hi"), chat_line("Ho")),
    "cut inside a line": lines(chat_line("Hi"), CHAT_END)[:-20],
    "nothing": b"",
    "nonsense": lines(chat_line("Hi")) + b"<html>\n" + lines(CHAT_END),
    "no UTF-8": lines(chat_line("Hi")) + b'{"message":{"content":"\xff"}}\n' + lines(CHAT_END),
    "another type": lines(chat_line("Hi"), {"message": {"content": 7}}, CHAT_END),
    "an array": lines(chat_line("Hi")) + b"[1]\n",
}
OPENAI_CHATS: dict[str, bytes] = {
    "plain": events(
        chunk({"role": "assistant", "content": None}),
        chunk({"content": "Hel"}),
        chunk({"content": "lo, Zoë 🐑"}),
        chunk({}, "stop"),
        USAGE,
    ),
    "crlf, comments and other fields": b": ping\r\n\r\nevent: message\r\nid: 7\r\nretry: 10\r\n"
    + events(chunk({"content": "Hi"}), chunk({}, "stop")).replace(b"\n", b"\r\n"),
    "no space after the colon": events(chunk({"content": "Hi"}), chunk({}, "stop")).replace(b"data: ", b"data:"),
    "data of several lines": b'data: {"choices":[{"index":0,\ndata: "delta":{"content":"Hi"},\n'
    b'data: "finish_reason":"stop"}]}\n\n' + events(),
    "no [DONE]": events(chunk({"content": "Hi"}), chunk({}, "stop"), USAGE, done=False),
    "no last blank line": events(chunk({"content": "Hi"}), chunk({}, "stop"), done=False).rstrip(b"\n"),
    "[DONE] without a blank line before": events(chunk({"content": "Hi"}, "stop"), done=False).rstrip(b"\n")
    + b"\ndata: [DONE]\n\n",
    "[DONE] without finish": events(chunk({"content": "Hi"})),
    "byte order mark": b"\xef\xbb\xbf" + events(chunk({"content": "Hi"}, "stop")),
    "reasoning_content": events(chunk({"reasoning_content": "hm"}), chunk({"content": "Yes"}), chunk({}, "stop")),
    "reasoning": events(chunk({"reasoning": "hm", "content": None}), chunk({"content": "Yes"}), chunk({}, "stop")),
    "tool calls in pieces": events(
        chunk(call_piece(0, "", "add", "a")),
        chunk(call_piece(0, '{"a":')),
        chunk(call_piece(1, "", "sub", "b")),
        chunk(call_piece(0, "1}")),
        chunk({}, "tool_calls"),
        USAGE,
    ),
    "tool calls without index": events(
        chunk(call_piece(None, '{"a":1}', "add", "a")), chunk(call_piece(None, "{}", "sub", "b")), chunk({}, "stop")
    ),
    "tool calls without index and id": events(
        chunk(call_piece(None, '{"a":1}', "add")),
        chunk(call_piece(None, "{", "sub")),
        chunk(call_piece(None, "}")),
        chunk({}, "stop"),
    ),
    "tool calls all numbered 0": events(
        chunk(call_piece(0, '{"a":', "add", "a")),
        chunk(call_piece(0, "1}")),
        chunk(call_piece(0, "{", "sub", "b")),
        chunk(call_piece(0, "}")),
        chunk({}, "tool_calls"),
    ),
    "a call cut by the limit": events(
        chunk(call_piece(0, "{}", "add", "a")), chunk(call_piece(1, '{"a', "sub", "b")), chunk({}, "length")
    ),
    "several choices": events(
        chunk({"content": "no"}, "stop", index=1), chunk({"content": "Hi"}), chunk({}, "stop"), USAGE
    ),
    "usage before the end": events(chunk({"content": "Hi"}, "stop", usage=USAGE["usage"]), chunk({}, None)),
    "usage null": events(chunk({"content": "Hi"}, usage=None), chunk({}, "stop", usage=None)),
    "timings": events(
        chunk({"content": "Hi"}),
        chunk({}, "length", timings={"prompt_n": 5, "prompt_ms": 1.5, "predicted_n": 1, "predicted_ms": 20.25}),
    ),
    "logprobs": events(
        {"choices": [{"index": 0, "delta": {"content": "Hi"}, "logprobs": {"content": LOGPROBS}}]}, chunk({}, "stop")
    ),
    "after the end": events(chunk({"content": "Hi"}, "stop")) + b"data: garbage\n\n",
    "empty choices first": events({"id": "", "choices": []}, chunk({"content": "Hi"}), chunk({}, "content_filter")),
}
OPENAI_TEXTS: dict[str, bytes] = {
    "plain": events(text_chunk("Hel"), text_chunk("lo"), text_chunk("", "stop"), USAGE),
    "no [DONE]": events(text_chunk("Hi", "length"), done=False),
}
BROKEN_OPENAI: dict[str, bytes] = {
    "error in the middle": events(chunk({"content": "Hi"}), {"error": {"message": "out of memory", "code": 500}}),
    "llama.cpp's error field": events(chunk({"content": "Hi"}), done=False)
    + b'error: {"code":500,"message":"context shift is disabled"}\n\n',
    "vLLM's error object": events(chunk({"content": "Hi"}), {"object": "error", "message": "engine died", "code": 500}),
    "cut": events(chunk({"content": "Hi"}), done=False),
    "nothing": b"",
    "only comments": b": ping\n\n: ping\n\n",
    "nonsense": events(chunk({"content": "Hi"}), done=False) + b"data: <html>\n\n" + events(chunk({}, "stop")),
    "arguments that are no object": events(chunk(call_piece(0, "[1]", "add", "a")), chunk({}, "tool_calls")),
    "another type": events(chunk({"content": 7})),
}
