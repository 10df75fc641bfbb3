"""What the scripted Ollama server's models can do, and what that server reads and refuses.

As the real server does, it reads requests into Go's types (images are base64, arguments are objects, `stop` is a list)
and refuses what a model's capabilities do not cover.
Source: docs/api.md, docs/api/errors.mdx and api/types.go of ollama/ollama.
"""

import base64
import hashlib
import json
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

VERSION = "0.13.0"
COMPLETION = ("completion", "tools", "vision", "insert")


@dataclass(frozen=True)
class Script:
    """How one answer is given. Seconds, counts and bytes; None means never."""

    capabilities: tuple[str, ...] = COMPLETION
    status: int = 200
    head_delay: float = 0.0
    tokens: int = 5
    token_delay: float = 0.0
    gap_after: int | None = None
    gap_seconds: float = 60.0
    break_after: int | None = None
    clean_end: bool = False
    """Where it breaks, end the body as if it were whole."""
    fails_after: int | None = None
    """Where it tells an error in the middle of the stream."""
    token_bytes: int = 0
    word: str = "word"
    endless: bool = False
    calls: int = 0
    """Tool calls, of the request's first tool, after the text."""
    drop: bool = False
    """End the connection without a byte."""


MODELS: dict[str, Script] = {
    "steady": Script(),
    "slow-head": Script(head_delay=60.0),
    "idle-gap": Script(gap_after=2),
    "breaks": Script(break_after=2),
    "cut": Script(break_after=2, clean_end=True),
    "fails": Script(fails_after=2),
    "drops": Script(drop=True),
    "endless": Script(endless=True, token_delay=0.01),
    "huge": Script(tokens=2, token_bytes=3_000_000),
    "wide": Script(word="Zoë 🐑 "),
    "thinking": Script(capabilities=(*COMPLETION, "thinking")),
    "tools": Script(tokens=0, calls=2),
    "plain": Script(capabilities=("completion",)),
    "embedder": Script(capabilities=("embedding",)),
    "error-400": Script(status=400),
    "error-500": Script(status=500),
    "error-503": Script(status=503),
}


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def read_body(data: bytes) -> dict[str, Any]:
    if not data.strip():
        raise Refused(400, "missing request body")
    try:
        body = json.loads(data)
    except ValueError:
        raise Refused(400, "invalid character looking for beginning of value") from None
    if not isinstance(body, dict):
        raise Refused(400, "json: cannot unmarshal value into Go value")
    return body


def script_for(body: dict[str, Any]) -> Script:
    name = str(body.get("model") or body.get("name") or "")
    if not name:
        raise Refused(400, "model is required")
    known = MODELS.get(name.removesuffix(":latest"))
    if known is None:
        raise Refused(404, f"model '{name}' not found")
    options = body.get("options")
    wanted = dict(options.get("script") or {}) if isinstance(options, dict) else {}
    names = {field.name for field in fields(Script)}
    return replace(known, **{name: value for name, value in wanted.items() if name in names})


def check(kind: str, body: dict[str, Any], script: Script) -> None:
    """Refuse what Go's types and the model's capabilities do not cover."""
    name = body["model"]
    if "completion" not in script.capabilities:
        raise Refused(400, f'"{name}" does not support {kind}')
    if body.get("tools") and "tools" not in script.capabilities:
        raise Refused(400, f"registry.ollama.ai/library/{name} does not support tools")
    if body.get("think") and "thinking" not in script.capabilities:
        raise Refused(400, f'"{name}" does not support thinking')
    if body.get("suffix") and "insert" not in script.capabilities:
        raise Refused(400, f"registry.ollama.ai/library/{name} does not support insert")
    if kind == "generate" and body.get("raw") and (body.get("template") or body.get("system") or body.get("context")):
        raise Refused(400, "raw mode does not support template, system, or context")
    _check_types(body)
    wanted = body.get("format")
    if wanted not in (None, "", "json") and not isinstance(wanted, dict):
        raise Refused(400, f'invalid format: {json.dumps(wanted)}; expected "json" or a valid JSON Schema object')
    options = body.get("options") or {}
    if not isinstance(options.get("stop", []), list):
        raise Refused(400, 'option "stop" must be of type array')
    for option in ("num_predict", "seed", "top_k", "num_ctx"):
        if not isinstance(options.get(option, 0), int | float):
            raise Refused(400, f'option "{option}" must be of type integer')


def _check_types(body: dict[str, Any]) -> None:
    images = list(body.get("images") or [])
    for message in body.get("messages") or []:
        if not isinstance(message.get("content", ""), str):
            raise Refused(
                400, "json: cannot unmarshal array into Go struct field Message.messages.content of type string"
            )
        images += message.get("images") or []
        for call in message.get("tool_calls") or []:
            if not isinstance(call["function"].get("arguments"), dict):
                raise Refused(400, "json: cannot unmarshal string into Go struct field of type map[string]interface {}")
    for image in images:
        try:
            base64.b64decode(image, validate=True)
        except ValueError:
            raise Refused(400, "illegal base64 data at input byte 4") from None


def embedded(path: str, body: dict[str, Any], script: Script) -> dict[str, Any]:
    if "embedding" not in script.capabilities:
        raise Refused(400, "this model does not support embeddings")
    if path == "/api/embeddings":
        return {"embedding": _vector(str(body.get("prompt", "")), None)}
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise Refused(400, "invalid input type")
    return {
        "model": body["model"],
        "embeddings": [_vector(text, body.get("dimensions")) for text in texts],
        "total_duration": 14_143_917,
        "load_duration": 1_019_500,
        "prompt_eval_count": sum(len(text.split()) for text in texts),
    }


def _vector(text: str, dimensions: int | None) -> list[float]:
    """A vector of length 1 that depends on the text alone."""
    numbers = [byte - 127.5 for byte in hashlib.sha256(text.encode()).digest()[: dimensions or 8]]
    length = sum(number * number for number in numbers) ** 0.5
    return [round(number / length, 9) for number in numbers]


def shown(script: Script) -> dict[str, Any]:
    return {
        "modelfile": "# Modelfile",
        "parameters": 'stop                           "<|end|>"',
        "template": "{{ .Prompt }}",
        "details": _details(),
        "model_info": {
            "general.architecture": "llama",
            "general.parameter_count": 8_030_261_248,
            "llama.context_length": 8192,
            "llama.embedding_length": 4096,
        },
        "capabilities": list(script.capabilities),
        "modified_at": timestamp(),
    }


def entry(name: str) -> dict[str, Any]:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return {"name": name, "model": name, "size": 4_661_224_676, "digest": digest, "details": _details()}


def _details() -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "8.0B",
        "quantization_level": "Q4_0",
    }


def content(kind: str, text: str, more: dict[str, Any]) -> dict[str, Any]:
    if kind == "generate":
        return {"response": text, **more}
    return {"message": {"role": "assistant", "content": text, **more}}


def timestamp(later: timedelta = timedelta()) -> str:
    return (datetime.now(UTC) + later).isoformat().replace("+00:00", "Z")
