"""One PostgreSQL server for the whole run, and Hypothesis profiles.

The profile `mutants` stops at the first failure, without looking for the smallest; `long` tries 2000 examples.
"""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import Phase, settings
from tests.postgres import PostgresServer, running_postgres

settings.register_profile("mutants", phases=(Phase.explicit, Phase.generate), deadline=None, database=None)
settings.register_profile("long", max_examples=2_000, deadline=None)


def pytest_configure() -> None:
    """A run in the background of a shell ignores Ctrl-C, and so would every command that a test starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real server. A test that stops it starts it again."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def _shared_database(postgres: PostgresServer) -> str:
    return postgres.create()


@pytest.fixture
def postgres_database(postgres: PostgresServer, _shared_database: str) -> str:
    """The name of a database with the whole schema and no rows, in which nobody else is at work."""
    postgres.empty(_shared_database)
    return _shared_database
