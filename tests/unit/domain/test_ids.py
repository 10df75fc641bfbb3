"""Identifiers."""

from concurrent.futures import ThreadPoolExecutor

from sluicegate.domain.ids import UlidFactory, new_asset_id, new_job_id


def test_ids_carry_their_kind() -> None:
    assert new_job_id().startswith("job_")
    assert new_asset_id().startswith("asset_")
    assert len(new_job_id()) == 30


def test_ids_never_repeat_and_sort_by_creation_also_from_many_threads() -> None:
    make = UlidFactory()
    made = [make() for _ in range(5_000)]
    assert made == sorted(set(made))
    with ThreadPoolExecutor(8) as pool:
        many = list(pool.map(lambda _: make(), range(5_000)))
    assert len(set(many)) == 5_000
    assert min(many) > made[-1]
