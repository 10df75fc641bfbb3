"""Options that several commands take, and the settings they lead to."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sluicegate.cli.terminal import Misuse

if TYPE_CHECKING:
    from sluicegate.errors import Fault
    from sluicegate.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])


def url_options(command: Command) -> Command:
    """``--url`` and ``--api-key``: where the gateway is, and who calls."""
    command = click.option(
        "--api-key",
        envvar="SLUICEGATE_API_KEY",
        help="Your key. Better set SLUICEGATE_API_KEY: other users of this machine can read a command line.",
    )(command)
    return click.option(
        "--url",
        envvar="SLUICEGATE_URL",
        help="Address of the gateway; else SLUICEGATE_URL. Default: http://127.0.0.1:8000.",
    )(command)


def store_options(command: Command) -> Command:
    """``--config`` and ``--data-dir``: which settings, and where state is kept."""
    command = click.option(
        "--data-dir",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder for the database and pictures. Default: sluicegate-data.",
    )(command)
    return click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Settings file. Default: sluicegate.toml of the working directory, when it is there.",
    )(command)


def json_option(command: Command) -> Command:
    """``--json``: machine output."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, and nothing else there.")(
        command
    )


def read_settings(config: Path | None, overrides: dict[str, Any]) -> "Settings":
    """The settings from file, environment and flags; every fault at once, with exit code 2."""
    from sluicegate.errors import InvalidSettings
    from sluicegate.settings import load_settings

    try:
        return load_settings(config, overrides=overrides)
    except InvalidSettings as error:
        raise Misuse(error.message) from None


def settings_or_faults(
    config: Path | None, overrides: dict[str, Any]
) -> "tuple[Settings, tuple[()]] | tuple[None, tuple[Fault, ...]]":
    """The settings, or what is wrong with them."""
    from sluicegate.errors import InvalidSettings
    from sluicegate.settings import load_settings

    try:
        return load_settings(config, overrides=overrides), ()
    except InvalidSettings as error:
        return None, error.faults
