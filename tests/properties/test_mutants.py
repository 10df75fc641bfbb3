"""A short form of `make mutants`: the tests notice when the rules that matter most are broken."""

import pytest
from tests.mutant import PACKAGE, is_caught
from tests.mutants import MUTANTS

KEY = {
    "a stale fence may write": "tests/properties/test_job_store.py",
    "event numbers have gaps": "tests/properties/test_job_store.py",
    "idle tenants keep their old tag": "tests/properties/test_fairness.py",
    "a mark at a cut counts twice": "tests/properties/test_token_scan.py",
    "one stream too many": "tests/unit/doors/lane/test_exchanges.py",
    "an unread body begins the next request": "tests/unit/doors/http/test_edges.py",
    "the backend works on when the call is over": "tests/unit/doors/lane/test_edges.py",
    "half an answer is asked for again": "tests/unit/backends/upstream/test_edges.py",
}


@pytest.mark.parametrize("name", KEY)
def test_the_tests_catch_it(name: str) -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.name == name)
    assert is_caught(mutant, (KEY[name],))


def test_every_mutant_of_a_file_has_a_name_of_its_own() -> None:
    names = [(mutant.file, mutant.name) for mutant in MUTANTS]
    assert sorted(set(names)) == sorted(names)


def test_every_mutant_still_has_something_to_change() -> None:
    for mutant in MUTANTS:
        assert mutant.before in (PACKAGE / mutant.file).read_text("utf-8"), mutant.name
