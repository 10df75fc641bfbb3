"""A short form of `make mutants`: the property tests notice when the rules that matter most are broken."""

import pytest
from tests.mutants import MUTANTS, is_caught

KEY = {
    "a stale fence may write": "tests/properties/test_job_store.py",
    "event numbers have gaps": "tests/properties/test_job_store.py",
    "idle tenants keep their old tag": "tests/properties/test_fairness.py",
}


@pytest.mark.parametrize("name", KEY)
def test_the_state_machine_catches_it(name: str) -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.name == name)
    assert is_caught(mutant, (KEY[name],))


def test_every_mutant_still_has_something_to_change() -> None:
    from tests.mutants import PACKAGE

    for mutant in MUTANTS:
        assert mutant.before in (PACKAGE / mutant.file).read_text("utf-8"), mutant.name
