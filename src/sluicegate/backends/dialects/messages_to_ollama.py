"""Messages of OpenAI's dialect, said in Ollama's."""

from collections.abc import Sequence
from typing import Any

import msgspec

from sluicegate.backends.dialects.openai import Message, Part, ToolCall
from sluicegate.backends.dialects.pictures import base64_of
from sluicegate.errors import Fault, InvalidInput

_ROLES = {"developer": "system", "function": "tool"}


def messages_to_ollama(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Texts of one message are joined by line ends; tool results carry the name of the tool that was called.

    Raises `InvalidInput` for content that Ollama does not take and for arguments that are no JSON object.
    """
    called: dict[str, str] = {}
    made = []
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        role = _ROLES.get(message.role, message.role)
        turn: dict[str, Any] = {"role": role, **_content(message.content, f"{path}.content")}
        if thinking := message.reasoning_content or message.reasoning:
            turn |= {"thinking": thinking} if isinstance(thinking, str) else {}
        if message.tool_calls:
            turn["tool_calls"] = [
                _call(call, f"{path}.tool_calls[{number}].function.arguments")
                for number, call in enumerate(message.tool_calls)
            ]
            called |= {call.id: call.function.name for call in message.tool_calls if call.id}
        if role == "tool":
            turn |= _answered(message, called)
        made.append(turn)
    return made


def _content(content: str | list[Part] | None, path: str) -> dict[str, Any]:
    if not isinstance(content, list):
        return {"content": content or ""}
    texts, images = [], []
    for index, part in enumerate(content):
        place = f"{path}[{index}]"
        match part.type:
            case "text" if part.text is not None:
                texts.append(part.text)
            case "refusal" if part.refusal is not None:
                texts.append(part.refusal)
            case "image_url" if part.image_url is not None:
                url = part.image_url if isinstance(part.image_url, str) else part.image_url.url
                images.append(base64_of(url, f"{place}.image_url.url"))
            case "text" | "refusal" | "image_url":
                raise InvalidInput.of(Fault(f"{place}.{part.type}", "required for this type, but absent"))
            case _:
                message = f'an Ollama backend takes no "{part.type[:80]}"'
                raise InvalidInput.of(Fault(f"{place}.type", message, "send text and image_url"))
    return {"content": "\n".join(texts)} | ({"images": images} if images else {})


def _call(call: ToolCall, path: str) -> dict[str, Any]:
    try:
        arguments = msgspec.json.decode(call.function.arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput.of(Fault(path, f"no JSON object: {error}", 'send for example "{}"')) from None
    made = {"function": {"name": call.function.name, "arguments": arguments}}
    return {"id": call.id, **made} if call.id else made


def _answered(message: Message, called: dict[str, str]) -> dict[str, str]:
    """Which call a tool's result answers."""
    answered = {}
    if name := message.name or called.get(message.tool_call_id or ""):
        answered["tool_name"] = name
    if message.tool_call_id:
        answered["tool_call_id"] = message.tool_call_id
    return answered
