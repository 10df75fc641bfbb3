"""One PostgreSQL server for the whole run, and Hypothesis profiles.

The profile `mutants` stops at the first failure, without looking for the smallest; `long` tries 2000 examples.
"""

from collections.abc import Iterator

import pytest
from hypothesis import Phase, settings
from tests.postgres import PostgresServer, running_postgres

settings.register_profile("mutants", phases=(Phase.explicit, Phase.generate), deadline=None, database=None)
settings.register_profile("long", max_examples=2_000, deadline=None)


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
