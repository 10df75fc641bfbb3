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


def test_open_calls_are_counted_by_backend_and_model_and_end_once() -> None:
    fleet = Fleet([])
    first, second, third = fleet.begin("a", "x"), fleet.begin("a", "x"), fleet.begin("a", "y")
    assert fleet.load("a") == 3
    assert fleet.outstanding() == {("a", "x"): 2, ("a", "y"): 1}
    first()
    first()
    assert fleet.outstanding() == {("a", "x"): 1, ("a", "y"): 1}
    second()
    third()
    assert fleet.load("a") == 0
    assert fleet.outstanding() == {}
