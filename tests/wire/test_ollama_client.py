"""The official Ollama client, unchanged: against backends of OpenAI's dialect, the built-in model and an Ollama server;
and the official OpenAI client against an Ollama server behind the gateway."""

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import openai
import pytest
from ollama import AsyncClient, Client, ResponseError
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam
from tests.gateway import RunningGateway, eventually, running_gateway
from tests.ollama_peer import OllamaPeer, ollama_peer
from tests.upstream import Upstream, scripted_upstream

from sluicegate.doors.ollama.answers import OllamaWording

HELLO = [{"role": "user", "content": "Say hello in one short sentence."}]
BUILT_IN = "smollm2-135m"
PICTURE = base64.b64encode(b"\x89PNG\r\n\x1a\n picture").decode()
LIMITED = {"num_predict": 12, "temperature": 0}


class House(NamedTuple):
    """A gateway before an OpenAI-compatible server (model "alpha"), and before an Ollama server (its models)."""

    gateway: RunningGateway
    upstream: Upstream
    peer: OllamaPeer


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with scripted_upstream("alpha", "flood", "error-429") as upstream, ollama_peer() as peer:
        config = f"""
[[backends]]
name = "upstream"
kind = "openai"
url = "{upstream.url}"
[[backends]]
name = "peer"
kind = "ollama"
url = "{peer.url}"
"""
        with running_gateway(tmp_path_factory.mktemp("house"), config) as gateway:
            gateway.wait_ready()
            yield House(gateway, upstream, peer)


@pytest.fixture
def client(house: House) -> Iterator[Client]:
    with Client(host=house.gateway.url) as made:
        yield made


@pytest.fixture
def local(gateway: RunningGateway) -> Iterator[Client]:
    """A client of the gateway with the built-in models."""
    with Client(host=gateway.url) as made:
        yield made


@pytest.fixture(params=["alpha", "steady", "steady:latest", BUILT_IN, f"{BUILT_IN}:latest"])
def asked(request: pytest.FixtureRequest, client: Client, local: Client) -> tuple[Client, str]:
    """A client, and a model as it may call it."""
    model: str = request.param
    return (local if BUILT_IN in model else client), model


@pytest.fixture
def compatible(house: House) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{house.gateway.url}/v1", api_key="anything", max_retries=0) as made:
        yield made


def test_a_whole_answer_has_words_counts_and_durations(asked: tuple[Client, str]) -> None:
    client, model = asked
    answer = client.chat(model, HELLO, options=LIMITED)
    assert answer.message.content
    assert (answer.model, answer.message.role, answer.done) == (model, "assistant", True)
    assert answer.done_reason in ("stop", "length")
    assert 0 < (answer.eval_count or 0) <= 12
    assert answer.prompt_eval_count
    assert answer.total_duration
    assert answer.eval_duration


def test_a_stream_is_lines_up_to_the_one_that_is_done(asked: tuple[Client, str]) -> None:
    client, model = asked
    parts = list(client.chat(model, HELLO, options=LIMITED, stream=True))
    assert "".join(part.message.content or "" for part in parts)
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert {part.model for part in parts} == {model}
    assert 0 < (parts[-1].eval_count or 0) <= 12


def test_a_prompt_is_answered_whole_and_streamed(asked: tuple[Client, str]) -> None:
    client, model = asked
    whole = client.generate(model, "Say hello.", options=LIMITED)
    parts = list(client.generate(model, "Say hello.", system="Be short.", options=LIMITED, stream=True))
    assert whole.response
    assert "".join(part.response or "" for part in parts)
    assert (whole.done, parts[-1].done) == (True, True)


@pytest.mark.parametrize("model", ["alpha", "steady", BUILT_IN])
def test_the_async_client_streams_side_by_side(house: House, gateway: RunningGateway, model: str) -> None:
    url = (gateway if model == BUILT_IN else house.gateway).url

    async def one(client: AsyncClient) -> str:
        stream = await client.chat(model, HELLO, options=LIMITED, stream=True)
        return "".join([part.message.content or "" async for part in stream])

    async def scenario() -> list[str]:
        async with AsyncClient(host=url) as client:
            assert (await client.chat(model, HELLO, options=LIMITED)).message.content
            return await asyncio.gather(*(one(client) for _ in range(3)))

    assert all(asyncio.run(scenario()))


def test_a_model_is_loaded_and_unloaded(asked: tuple[Client, str]) -> None:
    client, model = asked
    assert client.chat(model).done_reason == "load"
    assert client.generate(model, keep_alive=0).done_reason == "unload"


def test_it_lists_and_shows_models(client: Client, local: Client) -> None:
    listed = {model.model: model for model in client.list().models}
    assert {"alpha", "steady:latest", "embedder:latest"} <= set(listed)
    details = listed["steady:latest"].details
    assert details is not None
    assert (details.family, details.parameter_size) == ("llama", "8.0B")
    assert {model.model for model in client.ps().models} == set(listed)
    for name in ("steady", "steady:latest"):
        shown = client.show(name)
        assert shown.capabilities == ["completion", "tools", "vision", "insert"]
        assert (shown.modelinfo or {})["llama.context_length"] == 8192
    assert [model.model for model in local.list().models] == [BUILT_IN]
    assert local.show(BUILT_IN).capabilities == ["completion"]
    with pytest.raises(ResponseError, match="did you mean") as caught:
        client.show("alpa")
    assert caught.value.status_code == 404


def test_an_answer_keeps_to_a_json_schema(local: Client) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    answer = local.chat(BUILT_IN, HELLO, format=schema, options={"num_predict": 64})
    assert isinstance(json.loads(answer.message.content or "")["n"], int)


def test_options_format_tools_and_pictures_reach_a_server_of_either_dialect(house: House, client: Client) -> None:
    def add(number: int) -> int:
        """Add.

        Args:
          number: what to add
        """
        return number

    turns = [{"role": "user", "content": "see", "images": [PICTURE]}]
    options = {"seed": 7, "stop": ["END"], "num_predict": 4}
    answer = client.chat("tools", turns, tools=[add], options=options, format="json")
    calls = answer.message.tool_calls or []
    assert [(call.function.name, call.function.arguments) for call in calls] == [
        ("add", {"number": 0}),
        ("add", {"number": 1}),
    ]
    native = house.peer.seen()["last"]["body"]
    assert native["messages"][0]["images"] == [PICTURE]
    assert (native["options"], native["format"], len(native["tools"])) == (options, "json", 1)

    client.chat("alpha", turns, tools=[add], options=options, format="json")
    foreign = house.upstream.seen()["last"]["body"]
    parts = foreign["messages"][0]["content"]
    assert parts[1]["image_url"]["url"] == f"data:image/png;base64,{PICTURE}"
    assert (foreign["seed"], foreign["stop"], foreign["max_tokens"]) == (7, ["END"], 4)
    assert foreign["response_format"] == {"type": "json_object"}
    assert foreign["tools"][0]["function"]["name"] == "add"


def test_tool_calls_are_streamed(client: Client) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    parts = list(client.chat("tools", HELLO, tools=[tool], stream=True))
    assert [call.function.name for part in parts for call in part.message.tool_calls or []] == ["add", "add"]


def test_thinking_is_told_apart_from_the_answer(client: Client) -> None:
    parts = list(client.chat("thinking", HELLO, think=True, stream=True))
    assert "".join(part.message.thinking or "" for part in parts) == "hm"
    assert client.chat("thinking", HELLO, think=False).message.thinking is None


def test_texts_become_vectors(client: Client, local: Client) -> None:
    told = client.embed("embedder", ["a", "b"])
    assert [round(sum(number * number for number in vector), 6) for vector in told.embeddings] == [1, 1]
    assert list(client.embeddings("embedder", "a").embedding) == list(told.embeddings[0])
    with pytest.raises(ResponseError, match="makes no embeddings") as caught:
        local.embed(BUILT_IN, "a")
    assert caught.value.status_code == 400


@pytest.mark.parametrize(
    ("ask", "status", "words"),
    [
        (lambda client: client.chat("nobody", HELLO), 404, 'no model "nobody"'),
        (lambda client: list(client.chat("nobody", HELLO, stream=True)), 404, 'no model "nobody"'),
        (lambda client: client.chat("plain", HELLO, think=True), 400, "does not support thinking"),
        (lambda client: client.chat("alpha", [{"role": "user", "images": ["!"]}]), 400, "images"),
        (lambda client: client.chat("error-429", HELLO), 429, "scripted 429"),
        (lambda client: client.chat("error-500", HELLO), 502, "scripted 500"),
        (lambda client: list(client.chat("error-503", HELLO, stream=True)), 503, "scripted 503"),
        (lambda client: client.generate("steady", "a", raw=True, system="b"), 400, "raw mode"),
        (lambda client: client.generate("alpha", "a", template="b"), 400, "template"),
        (lambda client: client.pull("llama3"), 403, "the operator of this gateway chooses its models"),
        (lambda client: list(client.pull("llama3", stream=True)), 403, "the operator"),
        (lambda client: client.create("mine", from_="steady"), 403, "the operator"),
        (lambda client: client.push("steady"), 403, "the operator"),
        (lambda client: client.copy("steady", "mine"), 403, "the operator"),
        (lambda client: client.delete("steady"), 403, "the operator"),
    ],
)
def test_what_cannot_be_is_a_response_error_with_status_and_words(
    client: Client, ask: Callable[[Client], Any], status: int, words: str
) -> None:
    with pytest.raises(ResponseError) as caught:
        ask(client)
    assert (caught.value.status_code, words in caught.value.error) == (status, True), caught.value


@pytest.mark.parametrize(("model", "words"), [("fails", "while running the model"), ("cut", "before it was complete")])
def test_a_stream_that_breaks_is_a_response_error_behind_its_parts(client: Client, model: str, words: str) -> None:
    stream = client.chat(model, HELLO, stream=True)
    assert [next(stream).message.content for _ in range(2)] == ["word0 ", "word1 "]
    with pytest.raises(ResponseError, match=words):
        next(stream)


@pytest.mark.parametrize("model", ["flood", "endless"])
def test_who_leaves_a_stream_frees_the_server(house: House, model: str) -> None:
    far = house.upstream if model == "flood" else house.peer

    async def scenario() -> None:
        before = far.seen()["cancelled"]
        async with AsyncClient(host=house.gateway.url) as client:
            stream = await client.chat(model, HELLO, stream=True)
            assert (await anext(aiter(stream))).done is False
        await far.wait_until("cancelled", before + 1)

    asyncio.run(scenario())


def test_who_leaves_the_built_in_model_frees_it(gateway: RunningGateway) -> None:
    def cancelled() -> int:
        return int(gateway.get("/api/chat/streams").json()["cancelled"])

    before = cancelled()
    with Client(host=gateway.url) as client:
        stream = client.chat(BUILT_IN, HELLO, stream=True, options={"num_predict": 1500})
        next(iter(stream))
        del stream
    eventually(cancelled, lambda now: now == before + 1)


def test_both_clients_take_heartbeats_for_white_space() -> None:
    line = b'{"message":{"role":"assistant","content":"a"},"done":%b}\n'
    beat = OllamaWording().heartbeat
    pieces = [beat, line % b"false", beat, beat, line % b"true"]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()

    async def scenario() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, AsyncClient(host=url) as client:
            parts = [part async for part in await client.chat("m", HELLO, stream=True)]
            assert [part.done for part in parts] == [False, True]
            with Client(host=url) as sync:
                told = await asyncio.to_thread(lambda: list(sync.chat("m", HELLO, stream=True)))
            assert [part.done for part in told] == [False, True]

    asyncio.run(scenario())


MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]


def test_openais_client_gets_a_whole_answer_of_an_ollama_server(compatible: OpenAI) -> None:
    answer = compatible.chat.completions.create(model="steady", messages=MESSAGES, max_tokens=2)
    assert answer.choices[0].message.content == "word0 word1 "
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 2)
    assert "steady:latest" in {model.id for model in compatible.models.list()}
    assert compatible.models.retrieve("steady").id == "steady:latest"


def test_openais_client_streams_with_usage_from_an_ollama_server(compatible: OpenAI) -> None:
    stream = compatible.chat.completions.create(
        model="wide:latest", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    text, usage = "", None
    for chunk in stream:
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        usage = chunk.usage or usage
    assert text == "".join(f"Zoë 🐑 {number} " for number in range(5))
    assert usage is not None
    assert usage.total_tokens == 12


def test_openais_client_calls_tools_of_an_ollama_server(compatible: OpenAI) -> None:
    function: Any = {"name": "add", "parameters": {"type": "object", "properties": {}}}
    answer = compatible.chat.completions.create(
        model="tools", messages=MESSAGES, tools=[{"type": "function", "function": function}]
    )
    calls = answer.choices[0].message.tool_calls or []
    assert answer.choices[0].finish_reason == "tool_calls"
    assert [call.function.arguments for call in calls if call.type == "function"] == ['{"number": 0}', '{"number": 1}']


def test_openais_client_completes_and_embeds_by_an_ollama_server(compatible: OpenAI) -> None:
    completion = compatible.completions.create(model="steady", prompt="a", max_tokens=1)
    assert completion.choices[0].text == "word0 "
    vectors = [entry.embedding for entry in compatible.embeddings.create(model="embedder", input=["a", "b"]).data]
    assert [round(sum(number * number for number in vector), 4) for vector in vectors] == [1, 1]


def test_openais_client_is_told_an_ollama_servers_refusals_and_failures(compatible: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="does not support thinking"):
        compatible.chat.completions.create(model="plain", messages=MESSAGES, reasoning_effort="low")
    with pytest.raises(openai.BadRequestError, match="answers once, not 3 times"):
        compatible.chat.completions.create(model="steady", messages=MESSAGES, n=3)
    with pytest.raises(openai.APIError, match="while running the model"):
        list(compatible.chat.completions.create(model="fails", messages=MESSAGES, stream=True))


def test_a_call_of_the_client_is_cancelled_by_its_id(house: House) -> None:
    begun = threading.Event()
    caught: list[ResponseError] = []

    def read() -> None:
        with Client(host=house.gateway.url, headers={"x-request-id": "cancel-this"}) as client:
            try:
                for _ in client.chat("endless", HELLO, stream=True):
                    begun.set()
            except ResponseError as error:
                caught.append(error)

    before = house.peer.seen()["cancelled"]
    reader = threading.Thread(target=read)
    reader.start()
    assert begun.wait(30)
    assert house.gateway.delete("/api/chat/cancel-this").json() == {"requestId": "cancel-this", "cancelled": True}
    reader.join(30)
    assert [error.error for error in caught] == ["the call was cancelled"]
    assert house.peer.seen()["cancelled"] == before + 1
