"""Log probabilities: Ollama lists tokens, OpenAI's chat puts that list under ``content``, its completions have columns.

Each entry of Ollama's and of the chat's list is ``{"token", "logprob", "top_logprobs": [{"token", "logprob"}]}``.
"""

from collections.abc import Sequence
from typing import Any

Entries = Sequence[dict[str, Any]]


def chat_logprobs(entries: Entries | None) -> dict[str, Any] | None:
    """The form of chat completions; None when there are none."""
    return {"content": [{"top_logprobs": [], "bytes": None, **entry} for entry in entries]} if entries else None


def text_logprobs(entries: Entries | None, offset: int = 0) -> dict[str, Any] | None:
    """The form of completions; the text's first character stands at `offset`. None when there are none."""
    if not entries:
        return None
    tokens = [str(entry.get("token", "")) for entry in entries]
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    return {
        "tokens": tokens,
        "token_logprobs": [entry.get("logprob") for entry in entries],
        "top_logprobs": [
            {str(top.get("token", "")): top.get("logprob") for top in entry.get("top_logprobs") or ()}
            for entry in entries
        ],
        "text_offset": offsets,
    }


def ollama_logprobs(logprobs: Any) -> list[dict[str, Any]]:
    """Ollama's list, from either of OpenAI's forms; empty when there are none, or in a form that is not known."""
    if not isinstance(logprobs, dict):
        return []
    if isinstance(logprobs.get("content"), list):
        return [entry for entry in logprobs["content"] if isinstance(entry, dict)]
    tokens, values = logprobs.get("tokens"), logprobs.get("token_logprobs")
    if not isinstance(tokens, list) or not isinstance(values, list):
        return []
    tops = logprobs.get("top_logprobs")
    made = []
    for index, (token, value) in enumerate(zip(tokens, values, strict=False)):
        top = tops[index] if isinstance(tops, list) and index < len(tops) else None
        listed = [{"token": name, "logprob": number} for name, number in (top if isinstance(top, dict) else {}).items()]
        made.append({"token": token, "logprob": value} | ({"top_logprobs": listed} if listed else {}))
    return made
