"""All chat backends together, over real servers."""

import asyncio

from tests.upstream import eventually, scripted_upstream

from sluicegate.backends.fleet import Fleet
from sluicegate.backends.openai import OpenAIBackend
from sluicegate.settings import BackendSettings


def backend(name: str, url: str, *models: str) -> OpenAIBackend:
    return OpenAIBackend(BackendSettings(name=name, kind="openai", url=url, models=models))


def test_cards_are_unique_and_each_model_knows_its_backends() -> None:
    fleet = Fleet([backend("a", "http://127.0.0.1:1/v1", "x", "y"), backend("b", "http://127.0.0.1:1/v1", "y", "z")])
    assert [(card.id, card.backend) for card in fleet.cards()] == [("x", "a"), ("y", "a"), ("z", "b")]
    assert [each.name for each in fleet.serving("y")] == ["a", "b"]
    assert fleet.serving("none") == ()


def test_all_are_started_told_and_stopped() -> None:
    async def scene() -> None:
        with scripted_upstream("x") as one, scripted_upstream("y") as two:
            fleet = Fleet([backend("a", one.url), backend("b", two.url)])
            await fleet.start()
            await eventually(lambda: all(health.state == "up" for health in fleet.health().values()))
            assert {card.id for card in fleet.cards()} == {"x", "y"}
            await fleet.stop()
            assert {health.state for health in fleet.health().values()} == {"down"}

    asyncio.run(scene())


def test_open_calls_are_counted_by_backend_and_model() -> None:
    fleet = Fleet([backend("a", "http://127.0.0.1:1/v1", "x", "y")])
    for model in ("x", "x", "y"):
        fleet.begin("a", model)
    assert fleet.load("a") == 3
    assert fleet.outstanding() == {("a", "x"): 2, ("a", "y"): 1}
    fleet.end("a", "x")
    assert fleet.outstanding() == {("a", "x"): 1, ("a", "y"): 1}
    fleet.end("a", "x")
    fleet.end("a", "y")
    assert fleet.load("a") == 0
    assert fleet.outstanding() == {}


def test_who_serves_a_model_is_asked_anew_when_a_backend_tells_other_models() -> None:
    async def scene() -> None:
        with scripted_upstream("x") as one:
            told = OpenAIBackend(BackendSettings(name="a", kind="openai", url=one.url))
            fleet = Fleet([told, backend("b", "http://127.0.0.1:1/v1", "y")])
            assert fleet.serving("x") == ()
            assert fleet.serving("y") == (fleet.backends[1],)
            await told.start()
            await eventually(lambda: told.health().state == "up")
            assert fleet.serving("x") == (told,)
            assert fleet.serving("y") == (fleet.backends[1],)
            assert fleet.serving("none") == ()
            await told.stop()

    asyncio.run(scene())


class Others:
    """What other processes have open. Fulfils `SharedCount`."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.told: list[int] = []

    def set(self, value: int) -> None:
        """See `SharedCount`."""
        self.told.append(value)

    def others(self) -> int:
        """See `SharedCount`."""
        return self.count


def test_calls_of_other_processes_count_for_the_load_and_ours_are_told_to_them() -> None:
    shared = {"a": Others(3), "b": Others(0)}
    fleet = Fleet([backend("a", "http://127.0.0.1:1/v1", "x"), backend("b", "http://127.0.0.1:1/v1", "x")], shared)
    fleet.begin("a", "x")
    fleet.begin("b", "x")
    fleet.end("b", "x")
    assert (fleet.load("a"), fleet.load("b")) == (4, 0)
    assert (shared["a"].told, shared["b"].told) == ([1], [1, 0])
    assert fleet.outstanding() == {("a", "x"): 1}


def test_a_place_is_taken_only_where_all_processes_together_have_one_left() -> None:
    shared = {"a": Others(98)}
    only = backend("a", "http://127.0.0.1:1/v1", "x")
    fleet = Fleet([only], shared)
    assert [fleet.begin_within(only, "x") for _ in range(3)] == [True, True, False]
    assert (fleet.load("a"), shared["a"].told) == (100, [1, 2])


def test_the_gauges_have_every_backend_and_model_also_idle_ones() -> None:
    fleet = Fleet([backend("a", "http://127.0.0.1:1/v1", "x", "y")])
    fleet.begin("a", "x")
    gauges = fleet.gauges()
    assert gauges.inflight == {("a", "x"): 1, ("a", "y"): 0}
    assert gauges.limits == {("a", "x"): 100, ("a", "y"): 100}
