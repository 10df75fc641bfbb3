"""``sluicegate chat``: an answer streamed to the terminal, once or as a conversation."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import click

from sluicegate.cli.client import Client, Json, refusal
from sluicegate.cli.connection import Target, connect_or_start
from sluicegate.cli.events import EventReader
from sluicegate.cli.options import json_option, store_options, url_options
from sluicegate.cli.terminal import (
    Failure,
    argument_text,
    is_terminal,
    print_json,
    printable,
    run,
    run_in,
    say,
    seconds_text,
)

_HELP = "/new forgets the conversation, /exit (or Ctrl-D) ends it; Ctrl-C stops an answer."


@dataclass(slots=True)
class Reply:
    """An answer as far as it has come. `seconds` runs from the request to the last piece."""

    model: str
    content: str = ""
    finish_reason: str | None = None
    usage: Json | None = None
    seconds: float = 0.0
    first_token_seconds: float | None = None

    @property
    def tokens_per_second(self) -> float | None:
        """Completion tokens by second after the first one; None when not known."""
        tokens = (self.usage or {}).get("completion_tokens")
        if not tokens or self.first_token_seconds is None or self.seconds <= self.first_token_seconds:
            return None
        return max(0, int(tokens) - 1) / (self.seconds - self.first_token_seconds) or None


@dataclass(slots=True, kw_only=True)
class Talk:
    """A conversation with one model: what is asked of it each time, and what was said."""

    client: Client
    model: str
    options: Json
    messages: list[Json] = field(default_factory=list)

    async def ask(self, text: str, show: Callable[[str], None]) -> Reply:
        """Send `text`, hand each piece of the answer to `show`, and remember both. A failed question is forgotten."""
        question = {"role": "user", "content": text}
        request = {
            "model": self.model,
            "messages": [*self.messages, question],
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.options,
        }
        reply = await stream_reply(self.client, request, show)
        self.messages += [question, {"role": "assistant", "content": reply.content}]
        return reply


async def stream_reply(client: Client, request: Json, show: Callable[[str], None]) -> Reply:
    """One streamed completion. Raises `Failure` when it is refused or breaks off."""
    began = time.monotonic()
    reply = Reply(model=request["model"])
    async with client.chat(request) as pieces:
        async for chunk in _chunks(pieces):
            reply.model = chunk.get("model") or reply.model
            reply.usage = chunk.get("usage") or reply.usage
            for choice in (chunk.get("choices") or [])[:1]:
                reply.finish_reason = choice.get("finish_reason") or reply.finish_reason
                text = (choice.get("delta") or {}).get("content")
                if text:
                    if reply.first_token_seconds is None:
                        reply.first_token_seconds = time.monotonic() - began
                    reply.content += text
                    show(text)
    reply.seconds = time.monotonic() - began
    return reply


async def _chunks(pieces: AsyncIterator[bytes]) -> AsyncIterator[Json]:
    """The JSON chunks of a completion's event stream up to ``[DONE]``. Raises `Failure` when it ends before that."""
    reader = EventReader()
    async for piece in pieces:
        for event in reader.feed(piece):
            if event.data == "[DONE]":
                return
            try:
                chunk = json.loads(event.data)
            except ValueError:
                raise Failure(f"the answer holds an event that is not JSON: {event.data[:80]}") from None
            if chunk.get("error"):
                raise Failure(refusal(502, event.data.encode(), {}))
            yield chunk
    raise Failure("the answer broke off before its end; ask again")


@click.command(
    epilog="""\b
Examples:
  sluicegate chat "Write a haiku about rain"
  sluicegate chat --system "Answer in French" --max-tokens 60 "Good morning"
  cat letter.txt | sluicegate chat
  sluicegate chat            (a conversation; /exit ends it)"""
)
@click.argument("prompt", nargs=-1)
@click.option("-m", "--model", help="Model to ask. Default: the first chat model that the gateway names.")
@click.option("-s", "--system", help="Instructions that stand before the conversation.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Longest answer, in tokens. Default: the model's own.")
@click.option("--temperature", type=click.FloatRange(0, 2), help="0 is steady, 2 is wild. Default: the model's own.")
@json_option
@url_options
@store_options
def chat(
    *,
    prompt: tuple[str, ...],
    model: str | None,
    system: str | None,
    max_tokens: int | None,
    temperature: float | None,
    as_json: bool,
    url: str | None,
    api_key: str | None,
    config: Path | None,
    data_dir: Path | None,
) -> None:
    """Ask a chat model, and see the answer as it is made.

    PROMPT "-", or none with input from a pipe, reads the prompt from stdin; none on a terminal begins a
    conversation. When no --url is given and no gateway answers on this machine, one is started for as long as this
    command runs (that is what --config and --data-dir are for).
    """
    target = Target(url=url, api_key=api_key, config=config, data_dir=data_dir)
    options: Json = {"max_tokens": max_tokens, "temperature": temperature}
    options = {name: value for name, value in options.items() if value is not None}
    first = [{"role": "system", "content": argument_text(system)}] if system else []
    text = _prompt(prompt)
    if text is None:
        if as_json:
            raise click.UsageError("--json needs a PROMPT")
        _converse(target, model, options, first)
        return
    run(_ask_once(target, model, options, first, text, as_json=as_json))


def _prompt(words: tuple[str, ...]) -> str | None:
    """The prompt, or None for a conversation."""
    if words and words != ("-",):
        text = argument_text(" ".join(words))
    elif not words and is_terminal(sys.stdin):
        return None
    else:
        text = sys.stdin.buffer.read().decode("utf-8", "replace").strip() if sys.stdin else ""
    if not text.strip():
        raise click.UsageError('the prompt is empty; write for example: sluicegate chat "Say hello"')
    return text


async def _open_talk(
    stack: AsyncExitStack, target: Target, model: str | None, options: Json, first: list[Json]
) -> Talk:
    client = await stack.enter_async_context(connect_or_start(target))
    return Talk(client=client, model=model or await _first_model(client), options=options, messages=list(first))


async def _first_model(client: Client) -> str:
    models = await client.models()
    for model in models:
        if "chat" in model.get("tasks", ["chat"]):
            return str(model["id"])
    raise Failure("the gateway serves no chat model now; see its backends with: sluicegate doctor")


async def _ask_once(
    target: Target, model: str | None, options: Json, first: list[Json], text: str, *, as_json: bool
) -> None:
    async with AsyncExitStack() as stack:
        talk = await _open_talk(stack, target, model, options, first)
        reply = await _answer(talk, text, quiet=as_json)
    if as_json:
        print_json(
            {
                "model": reply.model,
                "content": reply.content,
                "finish_reason": reply.finish_reason,
                "usage": reply.usage,
                "seconds": round(reply.seconds, 3),
                "tokens_per_second": reply.tokens_per_second and round(reply.tokens_per_second, 1),
            }
        )


async def _answer(talk: Talk, text: str, *, quiet: bool = False) -> Reply:
    """Ask, write the answer to stdout as it comes (unless quiet), and on a terminal say how fast it was."""
    shown = False

    def show(piece: str) -> None:
        nonlocal shown
        shown = True
        click.echo(printable(piece) if is_terminal(sys.stdout) else piece, nl=False)

    try:
        reply = await talk.ask(text, (lambda _: None) if quiet else show)
    finally:
        if shown:
            click.echo()
    if is_terminal(sys.stderr) and not quiet:
        say(_summary(reply))
    return reply


def _summary(reply: Reply) -> str:
    parts = [reply.model]
    if reply.usage:
        parts.append(f"{reply.usage.get('prompt_tokens', 0)} + {reply.usage.get('completion_tokens', 0)} tokens")
    if reply.tokens_per_second:
        parts.append(f"{reply.tokens_per_second:.1f} tokens/s")
    parts.append(seconds_text(reply.seconds))
    return f"[{' · '.join(parts)}]"


def _converse(target: Target, model: str | None, options: Json, first: list[Json]) -> None:
    """Read a line, answer it, until the caller has enough."""
    with suppress(ImportError):
        import readline  # noqa: F401  # input() then edits lines and keeps a history
    stack = AsyncExitStack()
    with asyncio.Runner() as runner:
        try:
            talk = run_in(runner, _open_talk(stack, target, model, options, first))
            say(f"talking to {talk.model}. {_HELP}")
            while (line := _read_line()) is not None:
                if line == "/new":
                    talk.messages[:] = first
                elif line.startswith("/"):
                    say(_HELP)
                elif line:
                    _answer_line(runner, talk, line)
        finally:
            runner.run(stack.aclose())


def _answer_line(runner: asyncio.Runner, talk: Talk, line: str) -> None:
    """Answer within a conversation: a failure is told, Ctrl-C ends the answer, and the talk goes on."""
    try:
        runner.run(_answer(talk, line))
    except KeyboardInterrupt:
        say("(stopped)")
    except Failure as failure:
        failure.show()


def _read_line() -> str | None:
    """The next line; None at /exit, Ctrl-D or Ctrl-C."""
    try:
        line = input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        click.echo(err=True)
        return None
    return None if line in ("/exit", "/quit") else line
