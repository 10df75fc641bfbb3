"""The address of the server as it is shown: never a piece of the password."""

import pytest

from sluicegate.storage.postgres.connection import Database


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://anna@db:5432/jobs", "db:5432/jobs"),
        ("postgresql://anna:geheim@db/jobs?sslmode=require", "db/jobs"),
        ("postgres://anna:12/geheim@db/jobs", "db/jobs"),
        ("postgresql://anna:1#geheim@db/jobs", "db/jobs"),
        ("postgresql://anna:1?geheim@db/jobs", "db/jobs"),
        ("postgresql://anna:a@b/geheim@db/jobs", "db/jobs"),
        ("postgresql://anna:[geheim@db/jobs", "db/jobs"),
        ("postgresql://a:5432,b:5433/jobs", "a:5432,b:5433/jobs"),
        ("postgresql://anna@[::1]:5432/jobs", "[::1]:5432/jobs"),
        ("postgresql:///jobs?host=/run/pg&password=geheim", "/run/pg/jobs"),
        ("postgresql:///jobs?password=a&geheim", "localhost/jobs"),
        ("postgresql:///jobs", "localhost/jobs"),
    ],
)
def test_an_address_is_shown_without_user_and_password(url: str, shown: str) -> None:
    database = Database(url)
    assert database.shown == shown
    assert database.name == "jobs"
    said = f"{database!r} {database.unavailable(OSError(2, url))} {database.unavailable(TimeoutError())}"
    assert "heim" not in said
