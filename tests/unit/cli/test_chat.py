"""Chat answers streamed to a terminal or a program."""

import asyncio
import json
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.unit.cli.scripted_gateway import Answer, ScriptedGateway, json_answer, scripted_gateway, stream_answer
from tests.upstream import Upstream, scripted_upstream

from sluicegate.cli import main
from sluicegate.cli.chat import Reply, Talk
from sluicegate.cli.connection import Target, connect
from sluicegate.cli.terminal import Failure

CHAT = "/v1/chat/completions"


def chunk(text: str | None = None, **more: Any) -> str:
    delta = {} if text is None else {"content": text}
    choices = [{"index": 0, "delta": delta, "finish_reason": None}]
    return f"data: {json.dumps({'model': 'm', 'choices': choices, **more})}\n\n"


WHOLE = stream_answer(
    chunk("Good "),
    chunk("morning"),
    'data: {"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    'data: {"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n',
    "data: [DONE]\n\n",
)


def talk(*answers: Answer, questions: tuple[str, ...] = ("hello",)) -> tuple[list[Reply], str, ScriptedGateway]:
    """The replies, all that was shown, and the gateway."""

    async def scenario() -> tuple[list[Reply], str, ScriptedGateway]:
        async with scripted_gateway() as gateway, connect(Target(url=gateway.url)) as client:
            gateway.script("POST", CHAT, *answers)
            conversation = Talk(client=client, model="m", options={"max_tokens": 9})
            shown: list[str] = []
            replies = [await conversation.ask(question, shown.append) for question in questions]
            return replies, "".join(shown), gateway

    return asyncio.run(scenario())


def test_an_answer_is_shown_in_pieces_and_summed_up() -> None:
    (reply,), shown, gateway = talk(WHOLE)

    assert shown == reply.content == "Good morning"
    assert reply.finish_reason == "stop"
    assert reply.usage == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    sent = json.loads(gateway.seen[0].body)
    assert sent == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 9,
    }


def test_a_conversation_remembers_what_was_said() -> None:
    _, _, gateway = talk(WHOLE, questions=("hello", "and now?"))

    assert json.loads(gateway.seen[1].body)["messages"] == [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "Good morning"},
        {"role": "user", "content": "and now?"},
    ]


def test_speed_is_told_only_when_it_can_be_known() -> None:
    measured = Reply(model="m", usage={"completion_tokens": 11}, seconds=2.5, first_token_seconds=0.5)

    assert measured.tokens_per_second == 5.0
    assert Reply(model="m", usage=None, seconds=2.5, first_token_seconds=0.5).tokens_per_second is None
    assert Reply(model="m", usage={"completion_tokens": 11}).tokens_per_second is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (stream_answer(chunk("Good ")), "broke off"),
        (stream_answer(chunk("Good "), ends=False), "broke"),
        (stream_answer("data: nonsense\n\n"), "not JSON"),
        (
            stream_answer(chunk("Good "), 'data: {"error":{"message":"too late","code":"backend_timeout"}}\n\n'),
            "too late",
        ),
        (json_answer({"error": {"message": "no such model", "type": "x", "code": "model_not_found"}}, 404), "no such"),
    ],
)
def test_an_answer_that_goes_wrong_is_a_failure_in_words(answer: Answer, words: str) -> None:
    with pytest.raises(Failure, match=words):
        talk(answer)


def ask_upstream(upstream: Upstream, *arguments: str, stdin: str | None = None) -> Result:
    """The command against a real server of the dialect in another process."""
    url = upstream.url.removesuffix("/v1")
    return CliRunner().invoke(main, ["chat", "--url", url, *arguments], input=stdin)


def test_a_prompt_is_answered_on_stdout() -> None:
    with scripted_upstream("steady") as upstream:
        result = ask_upstream(upstream, "two", "words")

        assert result.exit_code == 0, result.output
        assert result.stdout.strip()
        assert result.stderr == ""
        sent = upstream.seen()["last"]["body"]
        assert sent["model"] == "steady"
        assert sent["messages"] == [{"role": "user", "content": "two words"}]


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_a_prompt_is_read_from_a_pipe(arguments: list[str]) -> None:
    with scripted_upstream("steady") as upstream:
        result = ask_upstream(upstream, *arguments, stdin="from a pipe\n")

        assert result.exit_code == 0, result.output
        assert upstream.seen()["last"]["body"]["messages"][0]["content"] == "from a pipe"


def test_json_holds_the_whole_answer_and_its_usage() -> None:
    with scripted_upstream("steady") as upstream:
        result = ask_upstream(upstream, "--json", "--system", "be brief", "hello")

        value = json.loads(result.stdout)
        assert value["content"]
        assert value["usage"]["completion_tokens"] > 0
        messages = upstream.seen()["last"]["body"]["messages"]
        assert [message["role"] for message in messages] == ["system", "user"]


def test_ctrl_c_ends_the_command_and_the_answer_at_its_source() -> None:
    async def scenario(upstream: Upstream) -> None:
        command = [
            sys.executable,
            "-m",
            "sluicegate",
            "chat",
            "--url",
            upstream.url.removesuffix("/v1"),
            "-m",
            "endless",
        ]
        child = await asyncio.create_subprocess_exec(*command, "hello", stdout=PIPE, stderr=PIPE)
        assert child.stdout is not None
        assert child.stderr is not None
        assert await child.stdout.read(1)
        child.send_signal(signal.SIGINT)
        await upstream.wait_until("cancelled", 1)
        _, errors = await child.communicate()
        assert (child.returncode, errors) == (130, b"")

    with scripted_upstream("endless") as upstream:
        asyncio.run(scenario(upstream))


def test_characters_that_cannot_be_written_are_replaced() -> None:
    async def scenario() -> None:
        async with scripted_gateway() as gateway:
            broken = 'data: {"choices":[{"delta":{"content":"half \\ud83d done"}}]}\n\ndata: [DONE]\n\n'
            gateway.script("POST", CHAT, stream_answer(broken))
            command = [sys.executable, "-m", "sluicegate", "chat", "--url", gateway.url, "-m", "m", "hello"]
            for more in ([], ["--json"]):
                child = await asyncio.create_subprocess_exec(*command, *more, stdout=PIPE, stderr=PIPE)
                out, errors = await child.communicate()
                assert (child.returncode, errors) == (0, b"")
                assert b"half ? done" in out

    asyncio.run(scenario())


def test_a_closed_stdin_is_an_empty_prompt() -> None:
    command = f"{sys.executable} -m sluicegate chat <&-"

    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert "the prompt is empty" in done.stderr


def test_an_empty_prompt_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["chat"], input="  \n")

    assert result.exit_code == 2
    assert "empty" in result.stderr


def test_a_gateway_that_was_named_but_does_not_answer_is_told_without_a_traceback() -> None:
    result = CliRunner().invoke(main, ["chat", "--url", "http://127.0.0.1:9", "hello"])

    assert result.exit_code == 1
    assert "no gateway answers at http://127.0.0.1:9" in result.stderr
    assert "check --url or SLUICEGATE_URL" in result.stderr
