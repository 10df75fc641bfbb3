"""Translations between dialects under any splits, any damage, and there and back again."""

import itertools
import json
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.backends.dialects.recorded import (
    BROKEN_OLLAMA,
    BROKEN_OPENAI,
    CHAT_END,
    OLLAMA_CHATS,
    OLLAMA_TEXTS,
    OPENAI_CHATS,
    OPENAI_TEXTS,
    chat_line,
    chunk,
    events,
    lines,
    outcome,
)

from sluicegate.backends.dialects.answers_to_ollama import answer_to_ollama
from sluicegate.backends.dialects.answers_to_openai import answer_to_openai
from sluicegate.backends.dialects.failures import refusal_to_openai
from sluicegate.backends.dialects.to_ollama import (
    OllamaCall,
    chat_to_ollama,
    completion_to_ollama,
    embeddings_to_ollama,
)
from sluicegate.backends.dialects.to_openai import (
    OpenAICall,
    chat_to_openai,
    embed_to_openai,
    embeddings_to_openai,
    generate_to_openai,
)
from sluicegate.backends.dialects.translation import Translation
from sluicegate.errors import InvalidRequest
from sluicegate.testing import ManualClock

Make = Callable[[], Translation]


def to_openai(kind: Any, *, stream: bool = True) -> Make:
    call = OllamaCall(kind=kind, path="", body=b"", model="m", stream=stream, include_usage=True, as_base64=True)
    return lambda: answer_to_openai(call, answer_id="id", clock=ManualClock())


def to_ollama(kind: Any, *, stream: bool = True) -> Make:
    call = OpenAICall(kind=kind, path="", body=b"", model="m", stream=stream)
    return lambda: answer_to_ollama(call, clock=ManualClock(), started=0)


TRANSLATIONS: list[tuple[Make, bytes]] = [
    *((to_openai("chat"), body) for body in (*OLLAMA_CHATS.values(), *BROKEN_OLLAMA.values())),
    *((to_openai("completion"), body) for body in OLLAMA_TEXTS.values()),
    *((to_ollama("chat"), body) for body in (*OPENAI_CHATS.values(), *BROKEN_OPENAI.values())),
    *((to_ollama("generate"), body) for body in (*OPENAI_TEXTS.values(), *OPENAI_CHATS.values())),
    (to_openai("chat", stream=False), lines(CHAT_END)),
    (to_openai("completion", stream=False), lines(CHAT_END)),
    (to_openai("embeddings"), b'{"embeddings":[[0.5,1]],"prompt_eval_count":1}'),
    (to_ollama("chat", stream=False), b'{"choices":[{"message":{"content":"\xc3\xa9"},"finish_reason":"stop"}]}'),
    (to_ollama("generate", stream=False), b'{"choices":[{"text":"x","finish_reason":"stop"}]}'),
    (to_ollama("embed"), b'{"data":[{"embedding":[1]}]}'),
    (to_ollama("embeddings"), b'{"data":[{"embedding":"AACAPw=="}]}'),
    (lambda: refusal_to_openai(400), b'{"error":"no"}'),
]
MAKES = list({id(make): make for make, _ in TRANSLATIONS}.values())


def pieces_of(body: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[start:end] for start, end in itertools.pairwise(edges)]


@given(st.sampled_from(TRANSLATIONS), st.lists(st.integers(0, 10_000), max_size=12))
def test_any_split_gives_the_same_output_and_the_same_failure(case: tuple[Make, bytes], places: list[int]) -> None:
    make, body = case
    assert outcome(make(), pieces_of(body, places)) == outcome(make(), [body])


def test_one_byte_at_a_time_gives_the_same_for_every_recorded_body() -> None:
    for make, body in TRANSLATIONS:
        assert outcome(make(), [bytes([byte]) for byte in body]) == outcome(make(), [body])


@given(
    st.sampled_from(TRANSLATIONS),
    st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=6)), min_size=1, max_size=4),
    st.lists(st.integers(0, 10_000), max_size=6),
)
def test_damage_gives_an_answer_or_a_told_failure_whatever_the_split(
    case: tuple[Make, bytes], damage: list[tuple[int, bytes]], places: list[int]
) -> None:
    make, body = case
    for place, replacement in damage:
        at = place % (len(body) + 1)
        body = body[:at] + replacement + body[at + len(replacement) // 2 :]
    assert outcome(make(), pieces_of(body, places)) == outcome(make(), [body])


@given(st.sampled_from(MAKES), st.binary(max_size=200))
def test_noise_gives_an_answer_or_a_told_failure(make: Make, noise: bytes) -> None:
    made, failure = outcome(make(), [noise])
    assert failure or made


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(st.lists(TEXT, max_size=8), st.lists(TEXT, max_size=3), st.lists(st.integers(0, 10_000), max_size=6))
def test_text_and_thinking_survive_the_way_there_and_back(
    texts: list[str], thoughts: list[str], places: list[int]
) -> None:
    body = lines(*(chat_line("", thinking=thought) for thought in thoughts), *map(chat_line, texts), CHAT_END)
    there, failure = outcome(to_openai("chat")(), pieces_of(body, places))
    assert not failure
    back, failure = outcome(to_ollama("chat")(), pieces_of(there, places))
    assert not failure
    told = [json.loads(line) for line in back.splitlines()]
    assert "".join(line["message"]["content"] for line in told) == "".join(texts)
    assert "".join(line["message"].get("thinking", "") for line in told) == "".join(thoughts)
    assert (told[-1]["prompt_eval_count"], told[-1]["eval_count"]) == (11, 3)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(TEXT, JSON_VALUES, max_size=3)
NAMES = st.sampled_from(["add", "sub", "mul"])


@given(st.lists(st.tuples(NAMES, OBJECTS), min_size=1, max_size=4), st.lists(st.integers(1, 400), max_size=6))
def test_tool_calls_survive_however_their_arguments_are_streamed(
    calls: list[tuple[str, dict[str, Any]]], cuts: list[int]
) -> None:
    deltas = []
    for index, (name, arguments) in enumerate(calls):
        deltas.append({"index": index, "id": f"c{index}", "function": {"name": name, "arguments": ""}})
        text = json.dumps(arguments)
        edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
        deltas += [
            {"index": index, "function": {"arguments": text[start:end]}} for start, end in itertools.pairwise(edges)
        ]
    body = events(*(chunk({"tool_calls": [delta]}) for delta in deltas), chunk({}, "tool_calls"))
    made, failure = outcome(to_ollama("chat")(), [body])
    assert not failure
    told = json.loads(made.splitlines()[0])["message"]["tool_calls"]
    assert [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in told] == [
        (f"c{index}", name, arguments) for index, (name, arguments) in enumerate(calls)
    ]
    again, failure = outcome(to_openai("chat")(), [made])
    assert not failure
    chunks = [json.loads(line[6:]) for line in again.split(b"\n\n") if line.startswith(b"data: {")]
    back = [call for one in chunks for choice in one["choices"] for call in choice["delta"].get("tool_calls", ())]
    assert [(call["id"], json.loads(call["function"]["arguments"])) for call in back] == [
        (f"c{index}", arguments) for index, (_, arguments) in enumerate(calls)
    ]


PICTURES = st.sampled_from(["iVBORw0KGgoA", "/9j/AAAA", "R0lGODlh", "UklGRAAA"])
SAMPLING = {
    "temperature": st.sampled_from([0.0, 0.5, 1.5]),
    "top_p": st.sampled_from([0.0, 0.5, 1.0]),
    "presence_penalty": st.sampled_from([-1.5, 1.0]),
    "frequency_penalty": st.sampled_from([-1.5, 1.0]),
    "seed": st.integers(0, 2**40),
    "stop": st.lists(TEXT, min_size=1, max_size=2),
    "top_k": st.integers(0, 100),
    "min_p": st.sampled_from([0.0, 0.5]),
    "typical_p": st.sampled_from([0.5, 1.0]),
    "repeat_last_n": st.integers(-1, 64),
    "mirostat": st.integers(0, 2),
}
SCHEMAS = st.fixed_dictionaries({"type": st.just("object"), "properties": OBJECTS})
TOOLS = st.lists(
    st.builds(
        lambda name, schema: {"type": "function", "function": {"name": name, "parameters": schema}}, NAMES, SCHEMAS
    ),
    min_size=1,
    max_size=3,
)


@st.composite
def ollama_messages(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Turns, tool results among them, that say all that they can say."""
    turns: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 4))):
        match draw(st.sampled_from(["system", "user", "picture", "thinking", "tools"])):
            case "picture":
                images = draw(st.lists(PICTURES, min_size=1, max_size=2))
                turns.append({"role": "user", "content": draw(TEXT), "images": images})
            case "thinking":
                turns.append({"role": "assistant", "content": draw(TEXT), "thinking": draw(TEXT)})
            case "tools":
                calls: list[dict[str, Any]] = [
                    {"id": f"c{number}_{index}", "function": {"name": name, "arguments": draw(OBJECTS)}}
                    for index, name in enumerate(draw(st.lists(NAMES, min_size=1, max_size=3)))
                ]
                turns.append({"role": "assistant", "content": "", "tool_calls": calls})
                turns += [
                    {
                        "role": "tool",
                        "content": draw(TEXT),
                        "tool_name": call["function"]["name"],
                        "tool_call_id": call["id"],
                    }
                    for call in draw(st.permutations(calls))
                ]
            case role:
                turns.append({"role": role, "content": draw(TEXT)})
    return turns


@st.composite
def ollama_chats(draw: st.DrawFn) -> dict[str, Any]:
    """A body of /api/chat in which everything can be said in OpenAI's dialect."""
    body: dict[str, Any] = {"model": "m", "messages": draw(ollama_messages()), "stream": draw(st.booleans())}
    options = draw(st.fixed_dictionaries({}, optional={**SAMPLING, "num_predict": st.integers(1, 9)}))
    optional = st.fixed_dictionaries(
        {},
        optional={
            "format": st.just("json") | SCHEMAS,
            "think": st.booleans() | st.sampled_from(["low", "medium", "high"]),
            "tools": TOOLS,
        },
    )
    return body | draw(optional) | ({"options": options} if options else {})


@given(ollama_chats())
def test_a_chat_of_ollama_survives_the_way_there_and_back(body: dict[str, Any]) -> None:
    there = chat_to_openai(msgspec.json.encode(body))
    back = chat_to_ollama(there.body)
    assert json.loads(back.body) == body
    assert (there.stream, back.stream, back.include_usage) == (body["stream"],) * 3


@given(ollama_chats())
def test_a_chat_of_openai_survives_the_way_there_and_back(body: dict[str, Any]) -> None:
    first = chat_to_openai(msgspec.json.encode(body)).body
    again = chat_to_openai(chat_to_ollama(first).body).body
    assert json.loads(again) == json.loads(first)


@given(
    st.fixed_dictionaries({"prompt": TEXT, "stream": st.booleans()}, optional={"suffix": TEXT}),
    st.fixed_dictionaries({}, optional=SAMPLING),
)
def test_a_raw_generation_survives_the_way_there_and_back(body: dict[str, Any], options: dict[str, Any]) -> None:
    body = {"model": "m", **body} | ({"options": options} if options else {})
    there = generate_to_openai(msgspec.json.encode({**body, "raw": True}))
    assert there.path == "completions"
    assert json.loads(completion_to_ollama(there.body).body) == body


@given(st.lists(TEXT, min_size=1, max_size=3) | TEXT, st.none() | st.integers(1, 4096))
def test_an_embedding_survives_the_way_there_and_back(given_: Any, dimensions: int | None) -> None:
    body = {"model": "m", "input": given_} | ({"dimensions": dimensions} if dimensions else {})
    there = embed_to_openai(msgspec.json.encode(body))
    assert json.loads(embeddings_to_ollama(there.body).body) == body


REQUESTS = (
    chat_to_ollama,
    completion_to_ollama,
    embeddings_to_ollama,
    chat_to_openai,
    generate_to_openai,
    embed_to_openai,
    embeddings_to_openai,
)
FIELDS = (
    *("model", "messages", "prompt", "input", "stream", "stream_options", "options", "format", "response_format"),
    *("tools", "tool_choice", "think", "reasoning", "reasoning_effort", "chat_template_kwargs", "images", "context"),
    *("raw", "suffix", "n", "keep_alive", "logprobs", "top_logprobs", "stop", "max_tokens", "encoding_format"),
)
WORDS = st.sampled_from(
    [
        "role",
        "content",
        "type",
        "text",
        "image_url",
        "url",
        "tool_calls",
        "function",
        "name",
        "arguments",
        "images",
        "m",
    ]
)
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=10,
)


def translated_or_refused(translate: Callable[[bytes], Any], body: Any) -> None:
    """A body becomes a call for the same model, or is refused with words; nothing else may happen."""
    refused = ""
    model, made = "", b""
    try:
        call = translate(json.dumps(body).encode())
        model, made = call.model, call.body
    except InvalidRequest as refusal:
        refused = refusal.message
    assert refused or model == body["model"]
    assert not made or json.loads(made)["model"] == model


@given(st.sampled_from(REQUESTS), st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, ODD)) | ODD)
def test_any_json_is_translated_or_refused(translate: Callable[[bytes], Any], body: Any) -> None:
    translated_or_refused(translate, body)


@given(st.sampled_from(REQUESTS), ollama_chats(), st.sampled_from(FIELDS), ODD)
def test_any_wrong_field_is_translated_or_refused(
    translate: Callable[[bytes], Any], body: dict[str, Any], field: str, value: Any
) -> None:
    translated_or_refused(translate, {**body, "prompt": "p", "input": "i", field: value})
