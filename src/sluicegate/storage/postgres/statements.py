"""The named queries, migrations and functions that ship with the package.

``sql/NAME.sql`` are the queries that only read, ``functions/NAME.sql`` the server-side functions that write, and
``migrations/NUMBER_name.sql`` the steps of the schema, with the numbers and names of the SQLite engine's.
"""

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files

import msgspec


class Migration(msgspec.Struct, frozen=True):
    """One numbered step of the schema."""

    number: int
    name: str
    text: str


class Functions(msgspec.Struct, frozen=True):
    """The server-side functions: the script that creates them, and its digest (hex)."""

    script: str
    digest: str


@cache
def load_queries() -> Mapping[str, str]:
    """Every query by its name, without its comment."""
    return {
        name: "\n".join(line for line in text.splitlines() if not line.startswith("--")) for name, text in _texts("sql")
    }


def load_migrations() -> tuple[Migration, ...]:
    """Every migration, in order."""
    return tuple(Migration(int(name.partition("_")[0]), name, text) for name, text in _texts("migrations"))


def load_functions() -> Functions:
    """The functions as they should be in the database."""
    script = "\n".join(text for _, text in _texts("functions"))
    return Functions(script, hashlib.sha256(script.encode()).hexdigest())


def _texts(folder: str) -> Iterator[tuple[str, str]]:
    """Name and text of each file of the folder, by name."""
    entries = (files("sluicegate.storage.postgres") / folder).iterdir()
    for entry in sorted(entries, key=lambda entry: entry.name):
        if entry.name.endswith(".sql"):
            yield entry.name.removesuffix(".sql"), entry.read_text("utf-8")
