"""``sluicegate doctor``: what is wrong here, and the mend."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sluicegate.cli.options import json_option, settings_or_faults, store_options
from sluicegate.cli.terminal import console, print_json, run

if TYPE_CHECKING:
    from sluicegate.cli.checks import Finding

_SIGNS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "problem": ("problem", "bold red")}


@click.command(
    short_help="Say what is wrong on this machine, and the mend.",
    epilog="""\b
Examples:
  sluicegate doctor
  sluicegate doctor --config gateway.toml --json""",
)
@store_options
@json_option
def doctor(config: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Check Python, packages, settings, folders, the store, every backend, the port and memory; say the mend.

    Chat backends are started and asked for their models, which takes a few seconds. Nothing is changed, except that
    a database of an older version is migrated. Exit code 1 when there is a problem.
    """
    findings = run(_collect(config, data_dir, show=not as_json))
    problems = [finding for finding in findings if finding.verdict == "problem"]
    if as_json:
        print_json({"ok": not problems, "findings": [finding.as_dict() for finding in findings]})
    elif not problems:
        click.echo("\nAll is well.")
    else:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        click.echo(f"\n{count} to mend.")
    if problems:
        raise click.exceptions.Exit(1)


async def _collect(config: Path | None, data_dir: Path | None, *, show: bool) -> "list[Finding]":
    findings: list[Finding] = []
    async for finding in examine(config, data_dir):
        findings.append(finding)
        if show:
            _print(finding)
    return findings


async def examine(config: Path | None, data_dir: Path | None) -> "AsyncIterator[Finding]":
    """Every finding, in order. Faults of the settings end the examination: the rest hangs on them."""
    from sluicegate.cli import backend_checks, checks

    yield checks.check_python()
    for finding in (*checks.check_packages(), *checks.check_machine()):
        yield finding
    settings, faults = settings_or_faults(config, {"data_dir": str(data_dir) if data_dir else None})
    if settings is None:
        for finding in checks.check_faults(faults):
            yield finding
        return
    yield checks.Finding("settings", "ok", str(config) if config else "valid")
    for finding in checks.check_folders(settings):
        yield finding
    yield await checks.check_port(settings.server.host, settings.server.port)
    yield await backend_checks.check_store(settings)
    async for finding in backend_checks.check_chat(settings):
        yield finding
    for finding in await asyncio.to_thread(backend_checks.check_pictures, settings):
        yield finding


def _print(finding: "Finding") -> None:
    from rich.text import Text

    word, colour = _SIGNS[finding.verdict]
    screen = console()
    screen.print(
        Text.assemble((f"{word:<9}", colour), (f"{finding.check:<22}", "bold"), finding.message), soft_wrap=True
    )
    if finding.mend:
        screen.print(Text(f"{'':31}mend: {finding.mend}"), soft_wrap=True)
