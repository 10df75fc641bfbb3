"""The scripted Ollama server, driven by the official client."""

import asyncio
import base64
import contextlib
from collections.abc import Iterator

import httpx
import ollama
import pytest
from tests.ollama_models import VERSION
from tests.ollama_peer import OllamaPeer, ollama_peer

HELLO = [{"role": "user", "content": "hello"}]
ADD = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "number"}}}},
}
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n picture").decode()


@pytest.fixture(scope="module")
def peer() -> Iterator[OllamaPeer]:
    with ollama_peer() as running:
        yield running


@pytest.fixture
def client(peer: OllamaPeer) -> Iterator[ollama.Client]:
    with contextlib.closing(ollama.Client(host=peer.url, trust_env=False)) as made:
        yield made


def test_a_streamed_chat_comes_word_by_word_and_ends_with_counts(client: ollama.Client) -> None:
    parts = list(client.chat("wide", HELLO, stream=True))
    assert "".join(part.message.content or "" for part in parts) == "".join(f"Zoë 🐑 {n} " for n in range(5))
    assert [part.done for part in parts] == [False] * 5 + [True]
    assert (parts[-1].done_reason, parts[-1].eval_count, parts[-1].prompt_eval_count) == ("stop", 5, 7)
    assert parts[-1].total_duration


def test_a_whole_chat_is_cut_at_num_predict(client: ollama.Client) -> None:
    whole = client.chat("steady:latest", HELLO, options={"num_predict": 2})
    assert (whole.message.content, whole.done_reason, whole.eval_count) == ("word0 word1 ", "length", 2)


def test_tools_are_called_with_objects_and_thinking_comes_apart(client: ollama.Client) -> None:
    called = client.chat("tools", HELLO, tools=[ADD]).message.tool_calls
    assert called is not None
    assert [(call.function.name, call.function.arguments) for call in called] == [
        ("add", {"number": 0}),
        ("add", {"number": 1}),
    ]
    assert client.chat("thinking", HELLO).message.thinking == "hm"
    assert client.chat("thinking", HELLO, think=False).message.thinking is None


def test_generate_and_embed_answer(client: ollama.Client, peer: OllamaPeer) -> None:
    assert client.generate("steady", "hello", images=[PIXEL]).response == "word0 word1 word2 word3 word4 "
    assert [part.response for part in client.generate("steady", "hello", stream=True)][-2:] == ["word4 ", ""]
    embedded = client.embed("embedder", ["one", "two words"], dimensions=4)
    assert [len(vector) for vector in embedded.embeddings] == [4, 4]
    assert embedded.embeddings == client.embed("embedder", ["one", "two words"], dimensions=4).embeddings
    assert embedded.prompt_eval_count == 3
    assert len(client.embeddings("embedder", "one").embedding) == 8


def test_models_are_listed_shown_loaded_and_unloaded(client: ollama.Client, peer: OllamaPeer) -> None:
    assert "steady:latest" in [model.model for model in client.list().models]
    shown = client.show("embedder")
    assert shown.capabilities == ["embedding"]
    assert shown.modelinfo is not None
    assert shown.modelinfo["llama.context_length"] == 8192
    assert client.generate("plain").done_reason == "load"
    assert "plain" in [model.model for model in client.ps().models]
    assert client.chat("plain", [], keep_alive=0).done_reason == "unload"
    assert "plain" not in [model.model for model in client.ps().models]
    assert httpx.get(f"{peer.url}/api/version", trust_env=False).json() == {"version": VERSION}
    assert httpx.head(peer.url, trust_env=False).status_code == 200


@pytest.mark.parametrize(
    ("model", "more", "status", "words"),
    [
        ("nobody", {}, 404, "model 'nobody' not found"),
        ("embedder", {}, 400, "does not support chat"),
        ("plain", {"tools": [ADD]}, 400, "does not support tools"),
        ("steady", {"think": True}, 400, "does not support thinking"),
        ("error-503", {}, 503, "scripted 503"),
        ("steady", {"format": "xml"}, 400, "invalid format"),
        ("steady", {"options": {"stop": "x"}}, 400, 'option "stop" must be of type array'),
        ("steady", {"messages": [{"role": "user", "images": ["!!"]}]}, 400, "illegal base64 data"),
        (
            "steady",
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]},
            400,
            "cannot unmarshal string",
        ),
        ("steady", {"messages": [{"role": "user", "content": [{"type": "text"}]}]}, 400, "cannot unmarshal array"),
    ],
)
def test_what_the_real_server_refuses_is_refused(
    peer: OllamaPeer, model: str, more: dict[str, object], status: int, words: str
) -> None:
    body = {"model": model, "messages": HELLO, **more}
    answer = httpx.post(f"{peer.url}/api/chat", json=body, trust_env=False)
    assert answer.status_code == status
    assert words in answer.json()["error"]


def test_an_error_in_the_middle_of_a_stream_is_a_line(client: ollama.Client) -> None:
    got: list[str] = []
    with pytest.raises(ollama.ResponseError, match="while running the model"):
        got.extend(part.message.content or "" for part in client.chat("fails", HELLO, stream=True))
    assert got == ["word0 ", "word1 "]


def test_a_broken_stream_breaks_the_connection(client: ollama.Client) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        list(client.chat("breaks", HELLO, stream=True))


def test_a_caller_that_leaves_is_noticed(peer: OllamaPeer) -> None:
    async def scenario() -> None:
        before = peer.seen()["cancelled"]
        client = ollama.AsyncClient(host=peer.url, trust_env=False)
        stream = await client.chat("endless", HELLO, stream=True)
        async for part in stream:
            assert part.message.content == "word0 "
            break
        await stream.aclose()  # type: ignore[attr-defined]
        await client.close()  # type: ignore[no-untyped-call]
        seen = await peer.wait_until("cancelled", before + 1)
        assert seen["last"]["body"]["model"] == "endless"

    asyncio.run(scenario())
