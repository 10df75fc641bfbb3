"""The named queries: each is used, says what it is for, and finds its rows by an index."""

import re
import sqlite3
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from sluicegate.storage.sqlite.migrate import migrate
from sluicegate.storage.sqlite.statements import load_migrations, load_queries

PACKAGE = files("sluicegate.storage.sqlite")
NAMES = sorted(load_queries())


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path: Path = tmp_path_factory.mktemp("plans") / "store.db"
    migrate(path, load_migrations(), timeout=1.0)
    opened = sqlite3.connect(path)
    yield opened
    opened.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_query_says_what_it_is_for(name: str) -> None:
    first, *rest = (PACKAGE / "sql" / f"{name}.sql").read_text("utf-8").splitlines()
    assert re.fullmatch(r"-- [A-Z].*\.", first)
    assert rest


def test_every_query_is_used() -> None:
    source = "".join(entry.read_text("utf-8") for entry in PACKAGE.iterdir() if entry.name.endswith(".py"))
    assert [name for name in NAMES if f'"{name}"' not in source] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_query_reads_no_table_from_end_to_end_and_sorts_nothing(connection: sqlite3.Connection, name: str) -> None:
    text = load_queries()[name]
    values = dict.fromkeys(re.findall(r":(\w+)", text), 1)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", values)]
    # the counts have one row for each model, state and priority; workers are few; the limit's subquery is bounded
    whole = [step for step in plan if step.startswith("SCAN") and not step.startswith("SCAN (subquery")]
    assert name in {"queue_counts", "workers_seen"} or whole == []
    assert [step for step in plan if "TEMP B-TREE" in step and name != "workers_seen"] == []


def test_a_trigger_with_its_body_is_one_statement() -> None:
    (first, *_) = load_migrations()
    statements = list(first.statements())
    assert sum("CREATE TRIGGER" in statement for statement in statements) == 2
    assert all(sqlite3.complete_statement(statement) for statement in statements)
    assert "".join(statements).strip() == first.text.strip()
