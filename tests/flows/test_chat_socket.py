"""Chat over one WebSocket, through the real gateway: to a backend that does as told, and to the language model."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

import pytest
from tests.gateway import RunningGateway, eventually, running_gateway
from tests.upstream import Upstream, scripted_upstream
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

PATIENCE = 30.0
MESSAGES = [{"role": "user", "content": "Tell me a long story about a river."}]
IDLE_SECONDS = 2


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with scripted_upstream() as running:
        yield running


@pytest.fixture(scope="module")
def scripted(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway before a backend that does as its models are named."""
    config = f"""
[server]
client_idle_seconds = {IDLE_SECONDS}
max_body_bytes = 100_000
[[backends]]
name = "up"
kind = "openai"
url = "{upstream.url}"
"""
    with running_gateway(tmp_path_factory.mktemp("socket"), config) as gateway:
        gateway.wait_ready()
        yield gateway


Scenario = Callable[[ClientConnection], Awaitable[None]]


def talk(gateway: RunningGateway, scenario: Scenario) -> None:
    """Run a scenario on a socket of its own."""

    async def run() -> None:
        url = gateway.url.replace("http", "ws") + "/api/chat/ws"
        async with (
            asyncio.timeout(2 * PATIENCE),
            connect(url, proxy=None, max_size=None, open_timeout=PATIENCE) as client,
        ):
            await scenario(client)

    asyncio.run(run())


async def say(client: ClientConnection, **message: Any) -> None:
    await client.send(json.dumps({"messages": MESSAGES, **message}))


async def hear(client: ClientConnection) -> dict[str, Any]:
    """The next event."""
    event: dict[str, Any] = json.loads(await client.recv())
    assert set(event) == {"requestId", "event", "data"}
    return event


async def hear_end(client: ClientConnection, *requests: str) -> dict[str, list[dict[str, Any]]]:
    """All events of these exchanges, up to the end of each."""
    told: dict[str, list[dict[str, Any]]] = {request: [] for request in requests}
    open_ = set(requests)
    while open_:
        event = await hear(client)
        told[event["requestId"]].append(event)
        if event["event"] != "chat.completion.chunk":
            open_.discard(event["requestId"])
    return told


def counts(gateway: RunningGateway) -> dict[str, int]:
    told: dict[str, int] = gateway.get("/api/chat/streams").json()
    return told


def test_an_exchange_says_what_the_event_stream_would_say(scripted: RunningGateway) -> None:
    async def scenario(client: ClientConnection) -> None:
        await say(client, requestId="one", model="steady")
        told = (await hear_end(client, "one"))["one"]
        assert [event["event"] for event in told] == ["chat.completion.chunk"] * 5 + ["chat.completion.done"]
        over_sse = scripted.post("/api/chat", json={"messages": MESSAGES, "model": "steady"}).text
        datas = [json.loads(line[6:]) for line in over_sse.splitlines() if line.startswith("data: ")]
        assert [event["data"] for event in told[:-1]] == datas[:-1]
        done = told[-1]["data"]
        assert done.pop("totalDuration") > 0
        assert done == {"model": "steady", "evalCount": 5, "done": True}

    talk(scripted, scenario)


def test_an_answer_is_one_message_where_none_is_to_be_streamed(scripted: RunningGateway) -> None:
    async def scenario(client: ClientConnection) -> None:
        await say(client, type="chat", requestId="whole", model="steady", stream=False)
        told = await hear(client)
        assert (told["requestId"], told["event"]) == ("whole", "chat.completion")
        sent = {"messages": MESSAGES, "model": "steady", "stream": False}
        assert told["data"] == scripted.post("/api/chat", json=sent).json() | {"requestId": "whole"}

    talk(scripted, scenario)


def test_an_exchange_without_an_id_is_given_one(scripted: RunningGateway) -> None:
    async def scenario(client: ClientConnection) -> None:
        await say(client, model="steady", stream=False)
        told = await hear(client)
        assert told["requestId"].startswith("req_")
        assert told["data"]["requestId"] == told["requestId"]

    talk(scripted, scenario)


def test_several_exchanges_run_on_one_socket_at_once(scripted: RunningGateway, upstream: Upstream) -> None:
    async def scenario(client: ClientConnection) -> None:
        await say(client, requestId="endless", model="endless")
        assert (await hear(client))["requestId"] == "endless"
        for name in ("a", "b", "c"):
            await say(client, requestId=name, model="steady")
        told: dict[str, str] = {}
        is_endless_heard = False
        while len(told) < 3:
            event = await hear(client)
            is_endless_heard = is_endless_heard or event["requestId"] == "endless"
            if event["event"] != "chat.completion.chunk":
                told[event["requestId"]] = event["event"]
        assert told == dict.fromkeys(("a", "b", "c"), "chat.completion.done")
        before = counts(scripted)["active"]
        assert before == 1
        while (await hear(client))["requestId"] != "endless":
            pass

    talk(scripted, scenario)


def test_an_id_that_is_in_use_is_refused_and_the_first_exchange_goes_on(scripted: RunningGateway) -> None:
    async def scenario(client: ClientConnection) -> None:
        await say(client, requestId="twice", model="endless")
        await hear(client)
        await say(client, requestId="twice", model="endless")
        while (told := await hear(client))["event"] != "error":
            pass
        assert told["data"]["code"] == "CONFLICT"
        assert (await hear(client))["event"] == "chat.completion.chunk"

    talk(scripted, scenario)


def test_a_message_cancels_an_exchange_and_its_backend(scripted: RunningGateway, upstream: Upstream) -> None:
    async def scenario(client: ClientConnection) -> None:
        for model, words in (("endless", True), ("slow-head", False)):
            before = upstream.seen()
            await say(client, requestId="mine", model=model)
            if words:
                await hear(client)
            else:
                await upstream.wait_until("requests", before["requests"] + 1)
            await client.send('{"type": "cancel", "requestId": "mine"}')
            told = (await hear_end(client, "mine"))["mine"][-1]
            assert told["event"] == "error"
            assert told["data"]["code"] == "CANCELED"
            await upstream.wait_until("cancelled", before["cancelled"] + 1)
        await client.send('{"type": "cancel", "requestId": "mine"}')
        assert (await hear(client))["data"]["code"] == "STREAM_NOT_FOUND"

    talk(scripted, scenario)


def test_a_delete_over_http_cancels_an_exchange_of_a_socket(scripted: RunningGateway, upstream: Upstream) -> None:
    async def scenario(client: ClientConnection) -> None:
        before = upstream.seen()["cancelled"]
        await say(client, requestId="by-http", model="endless")
        await hear(client)
        assert scripted.delete("/api/chat/by-http").status_code == 200
        told = (await hear_end(client, "by-http"))["by-http"][-1]
        assert (told["event"], told["data"]["code"]) == ("error", "CANCELED")
        await upstream.wait_until("cancelled", before + 1)

    talk(scripted, scenario)


@pytest.mark.parametrize("is_polite", [True, False])
def test_the_end_of_a_socket_cancels_all_its_exchanges(
    scripted: RunningGateway, upstream: Upstream, is_polite: bool
) -> None:
    before = upstream.seen()["cancelled"]
    ended = counts(scripted)["cancelled"]

    async def scenario(client: ClientConnection) -> None:
        for name in ("a", "b", "c"):
            await say(client, requestId=name, model="endless")
            while (await hear(client))["requestId"] != name:
                pass
        if is_polite:
            await client.close()
        else:
            client.transport.abort()
        await upstream.wait_until("cancelled", before + 3)

    talk(scripted, scenario)
    eventually(lambda: counts(scripted), lambda told: told["active"] == 0)
    assert counts(scripted)["cancelled"] == ended + 3


@pytest.mark.parametrize(
    "fault",
    [
        {"messages": []},
        {"messages": [{"role": "robot", "content": "hi"}]},
        {"messages": MESSAGES, "temperature": 2.1},
        {"messages": MESSAGES, "maxTokens": "many"},
        {"messages": MESSAGES, "max_tokens": 5},
        {},
        [1, 2],
    ],
)
def test_a_bad_message_is_answered_in_the_words_of_http_and_ends_nothing(scripted: RunningGateway, fault: Any) -> None:
    over_http = scripted.post("/api/chat", json=fault).json()
    over_http["code"] = over_http.pop("error")

    async def scenario(client: ClientConnection) -> None:
        await client.send(json.dumps(fault))
        told = await hear(client)
        assert (told["requestId"], told["event"]) == (None, "error")
        assert told["data"]["code"] == "INVALID_REQUEST"
        assert _plain(told["data"]) == _plain(over_http)
        await say(client, requestId="after", model="steady")
        assert len((await hear_end(client, "after"))["after"]) == 6

    talk(scripted, scenario)


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    """Without the list of fields that exist, in which a message has two more."""
    text = json.dumps(data)
    return cast("dict[str, Any]", json.loads(text.replace("requestId, ", "").replace(", type", "")))


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{", None),
        ("", None),
        ('{"type": "shout"}', "type"),
        ('{"type": "cancel"}', "requestId"),
        ('{"type": "cancel", "requestId": 7}', "requestId"),
        ('{"requestId": "not sane", "messages": [{"role": "user", "content": "x"}]}', "requestId"),
        (b"{}", None),
    ],
)
def test_what_is_no_message_at_all_is_told_so(scripted: RunningGateway, text: str | bytes, field: str | None) -> None:
    async def scenario(client: ClientConnection) -> None:
        await client.send(text)
        told = (await hear(client))["data"]
        assert told["code"] == "INVALID_REQUEST"
        assert [detail["field"] for detail in told.get("details", [])] == ([field] if field else [])

    talk(scripted, scenario)


@pytest.mark.parametrize(
    ("model", "stream", "code"),
    [
        ("nobody", True, "MODEL_NOT_FOUND"),
        ("nobody", False, "MODEL_NOT_FOUND"),
        ("error-429", True, "BACKEND_REFUSED"),
        ("error-500", True, "BACKEND_FAILED"),
        ("error-500", False, "BACKEND_FAILED"),
        ("breaks", True, "BACKEND_FAILED"),
        ("cut", True, "BACKEND_FAILED"),
    ],
)
def test_a_failing_backend_is_an_error_of_its_exchange(
    scripted: RunningGateway, model: str, stream: bool, code: str
) -> None:
    async def scenario(client: ClientConnection) -> None:
        await say(client, requestId="fails", model=model, stream=stream)
        told = (await hear_end(client, "fails"))["fails"][-1]
        assert told["event"] == "error"
        assert told["data"]["code"] == code
        assert told["data"]["message"]
        assert ("retryAfter" in told["data"]) is (model == "error-429")

    talk(scripted, scenario)


def test_a_caller_who_takes_nothing_stalls_his_backends_and_is_let_go(
    scripted: RunningGateway, upstream: Upstream
) -> None:
    before = upstream.seen()

    async def scenario(client: ClientConnection) -> None:
        client.transport.pause_reading()
        for number in range(4):
            await say(client, requestId=f"flood-{number}", model="flood")
        await upstream.wait_until("cancelled", before["cancelled"] + 4)
        client.transport.resume_reading()

    talk(scripted, scenario)
    # 2 s of an unhindered flood are gigabytes; this is what kernels and we hold for four streams
    assert upstream.seen()["sent"] - before["sent"] < 100_000_000


def test_a_slow_caller_gets_everything_in_the_end(scripted: RunningGateway) -> None:
    async def scenario(client: ClientConnection) -> None:
        client.transport.pause_reading()
        names = [f"huge-{number}" for number in range(3)]
        for name in names:
            await say(client, requestId=name, model="huge")
        told = asyncio.create_task(hear_end(client, *names))
        client.transport.resume_reading()
        for events in (await told).values():
            assert [len(event["data"]["content"]) for event in events[:-1]] == [3_000_006] * 2
            assert events[-1]["event"] == "chat.completion.done"

    talk(scripted, scenario)


def test_a_message_over_the_limit_closes_the_socket_with_a_reason(scripted: RunningGateway) -> None:
    async def scenario(client: ClientConnection) -> None:
        await client.send("x" * 100_001)
        with pytest.raises(ConnectionClosed) as caught:
            await client.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009

    talk(scripted, scenario)


def test_a_gateway_that_stops_tells_the_exchanges_and_then_the_socket(tmp_path: Any) -> None:
    with scripted_upstream() as upstream:
        config = f'[server]\ndrain_seconds = 1\n[[backends]]\nname = "up"\nkind = "openai"\nurl = "{upstream.url}"\n'
        with running_gateway(tmp_path, config) as gateway:
            gateway.wait_ready()

            async def scenario(client: ClientConnection) -> None:
                await say(client, requestId="cut", model="endless")
                await hear(client)
                stopping = asyncio.create_task(asyncio.to_thread(gateway.stop))
                told = (await hear_end(client, "cut"))["cut"][-1]
                assert (told["event"], told["data"]["code"]) == ("error", "DRAINING")
                with pytest.raises(ConnectionClosed) as caught:
                    await client.recv()
                assert caught.value.rcvd is not None
                assert caught.value.rcvd.code == 1001
                await stopping

            talk(gateway, scenario)


def test_exchanges_are_logged_without_their_words(tmp_path: Any) -> None:
    with scripted_upstream() as upstream:
        config = f'[[backends]]\nname = "up"\nkind = "openai"\nurl = "{upstream.url}"\n'
        with running_gateway(tmp_path, config, {"SLUICEGATE__OBSERVABILITY__LOG_LEVEL": "debug"}) as gateway:
            gateway.wait_ready()

            async def scenario(client: ClientConnection) -> None:
                private = [{"role": "user", "content": "my private words"}]
                await say(client, requestId="seen-in-the-log", model="steady", messages=private)
                await hear_end(client, "seen-in-the-log")
                # The backend's answer ends a moment after its last event: who leaves between the two has left early.
                await asyncio.to_thread(eventually, lambda: counts(gateway), lambda told: told["active"] == 0)

            talk(gateway, scenario)
            gateway.stop()
            log = gateway.log()
        lines = [json.loads(line) for line in log.splitlines() if '"request"' in line and "/api/chat/ws" in line]
        assert [(line["method"], line["status"]) for line in lines] == [("WS", 200), ("GET", 101)]
        assert lines[0]["request_id"] == "seen-in-the-log"
        assert "my private words" not in log
        assert "word1" not in log


def test_the_language_model_answers_over_a_socket(gateway: RunningGateway) -> None:
    async def scenario(client: ClientConnection) -> None:
        await say(client, requestId="real", maxTokens=5)
        told = (await hear_end(client, "real"))["real"]
        assert "".join(event["data"]["content"] for event in told[:-1])
        assert told[-1]["data"]["evalCount"] == 5

    talk(gateway, scenario)
