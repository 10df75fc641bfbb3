"""Messages of Ollama's dialect, said in OpenAI's."""

from collections.abc import Sequence
from typing import Any

import msgspec

from sluicegate.backends.dialects.ollama import Message, ToolCall
from sluicegate.backends.dialects.pictures import data_url_of
from sluicegate.errors import Fault, InvalidInput


def messages_to_openai(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Calls without an id get one from their place; a tool's result is matched to its call by id, name or order.

    Raises `InvalidInput` for a result that no call precedes, and for pictures in a form that is not known.
    """
    waiting: dict[str, str] = {}
    made = []
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        role = message.role.lower()
        turn: dict[str, Any] = {"role": role, "content": message.content or ""}
        if message.images:
            text = [{"type": "text", "text": message.content}] if message.content else []
            turn["content"] = [*text, *picture_parts(message.images, f"{path}.images")]
        if message.thinking:
            turn["reasoning_content"] = message.thinking
        if message.tool_calls:
            turn["tool_calls"] = [_call(call, f"call_{index}_{n}") for n, call in enumerate(message.tool_calls)]
            waiting |= {call["id"]: call["function"]["name"] for call in turn["tool_calls"]}
        if role == "tool":
            turn["tool_call_id"] = _answered(message, waiting, path)
            if message.tool_name:
                turn["name"] = message.tool_name
        made.append(turn)
    return made


def picture_parts(images: Sequence[str], path: str) -> list[dict[str, Any]]:
    """Content parts for pictures in base64. Raises `InvalidInput`."""
    return [
        {"type": "image_url", "image_url": {"url": data_url_of(image, f"{path}[{index}]")}}
        for index, image in enumerate(images)
    ]


def _call(call: ToolCall, made_id: str) -> dict[str, Any]:
    arguments = msgspec.json.encode(call.function.arguments).decode()
    function = {"name": call.function.name, "arguments": arguments}
    return {"id": call.id or made_id, "type": "function", "function": function}


def _answered(message: Message, waiting: dict[str, str], path: str) -> str:
    """The id of the call that this result answers; that call waits no longer."""
    wanted = message.tool_call_id
    if not wanted:
        named = [id_ for id_, name in waiting.items() if not message.tool_name or name == message.tool_name]
        if not named:
            mend = "send the assistant's message with its tool_calls before it"
            raise InvalidInput.of(Fault(path, "the result of a tool that was not called", mend))
        wanted = named[0]
    waiting.pop(wanted, None)
    return wanted
