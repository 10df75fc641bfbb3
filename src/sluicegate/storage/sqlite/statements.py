"""The named queries (``sql/NAME.sql``) and migrations (``migrations/NUMBER_name.sql``) that ship with the package."""

import sqlite3
from collections.abc import Iterator, Mapping
from importlib.resources import files

import msgspec


class Migration(msgspec.Struct, frozen=True):
    """One numbered step of the schema."""

    number: int
    name: str
    text: str

    def statements(self) -> Iterator[str]:
        """The single statements of the file; a trigger with its body is one."""
        pending = ""
        for line in self.text.splitlines(keepends=True):
            pending += line
            if sqlite3.complete_statement(pending):
                yield pending
                pending = ""


def load_queries() -> Mapping[str, str]:
    """Every query by its name, without its comment."""
    folder = files("sluicegate.storage.sqlite") / "sql"
    return {
        entry.name.removesuffix(".sql"): _without_comments(entry.read_text("utf-8"))
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    }


def load_migrations() -> tuple[Migration, ...]:
    """Every migration, in order."""
    folder = files("sluicegate.storage.sqlite") / "migrations"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return tuple(
        Migration(int(name.partition("_")[0]), name.removesuffix(".sql"), (folder / name).read_text("utf-8"))
        for name in names
    )


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("--"))
