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
BOUNDED = re.compile(r"SCAN \(subquery|SCAN served VIRTUAL TABLE|SCAN job USING INDEX job_(lease|worker|due)$")
"""A limit's subquery; the models that a worker serves; the partial indexes of the jobs that are held or in back-off."""
SMALL = {"calibrations", "queue_clocks", "queue_counts", "queue_lanes", "queue_tenants", "workers_seen"}
"""Queries that tell the whole of a table with a row for each model, pool, worker, tenant or lane."""
FEW = {"lanes_of_tenant", "queue_counts", "workers_seen"}
"""Queries that sort a few rows."""


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
    whole = [step for step in plan if step.startswith("SCAN") and not BOUNDED.match(step)]
    assert name in SMALL or whole == []
    assert [step for step in plan if "TEMP B-TREE" in step and name not in FEW] == []


def test_a_trigger_with_its_body_is_one_statement() -> None:
    (first, *_) = load_migrations()
    statements = list(first.statements())
    assert sum("CREATE TRIGGER" in statement for statement in statements) == 2
    assert all(sqlite3.complete_statement(statement) for statement in statements)
    assert "".join(statements).strip() == first.text.strip()
