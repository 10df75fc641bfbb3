"""Costs: estimated from what is asked, corrected by what was learnt."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.backends.local_image import LocalImage
from sluicegate.domain.fairness import LEAST_COST, Policy
from sluicegate.domain.generation import (
    CostModel,
    ImageToImage,
    ModelCard,
    Stylize,
    Task,
    TaskInput,
    TextToImage,
    Upscale,
)
from sluicegate.errors import StoreUnavailable
from sluicegate.scheduling.costs import MEGAPIXEL, Costs, base_cost
from sluicegate.settings import BackendSettings
from sluicegate.storage.sqlite.store import SqliteStore
from sluicegate.testing import ManualClock

CARDS = {card.id: card for card in LocalImage(BackendSettings(name="b", kind="local-image")).cards()}
SPROUT = CARDS["sprout"]
POLICY = Policy()

MODELS = st.builds(
    CostModel,
    fixed=st.floats(0, 10),
    step=st.floats(0, 10),
    exponent=st.floats(0, 2),
    pixel=st.floats(0, 10),
    order=st.integers(1, 4),
    usual_steps=st.integers(1, 50),
    most_megapixels=st.none() | st.floats(0.01, 4),
    guidance_doubles=st.booleans(),
    strength_shortens=st.booleans(),
)


def drawer(model: CostModel) -> ModelCard:
    costs = {"text-to-image": model, "image-to-image": model}
    return ModelCard(
        id="m", tasks=("text-to-image", "image-to-image"), backend="b", sizes=(128,), steps=(1, 150), costs=costs
    )


def drawing(model: CostModel, *, n: int = 1, steps: int = 20, side: int = 512, guidance: float = 3.0) -> float:
    asked = TextToImage(prompt="p", n=n, steps=steps, width=side, height=side, guidance=guidance)
    return base_cost(drawer(model), "text-to-image", asked)


@given(model=MODELS, one=st.integers(1, 10), other=st.integers(1, 10))
def test_more_pictures_never_cost_less(model: CostModel, one: int, other: int) -> None:
    assert drawing(model, n=min(one, other)) <= drawing(model, n=max(one, other))


@given(model=MODELS, one=st.integers(1, 150), other=st.integers(1, 150))
def test_more_steps_never_cost_less(model: CostModel, one: int, other: int) -> None:
    assert drawing(model, steps=min(one, other)) <= drawing(model, steps=max(one, other))


@given(model=MODELS, one=st.integers(16, 4096), other=st.integers(16, 4096))
def test_larger_pictures_never_cost_less(model: CostModel, one: int, other: int) -> None:
    assert drawing(model, side=min(one, other)) <= drawing(model, side=max(one, other))


@given(model=MODELS, parts=st.lists(st.integers(1, 10), min_size=1, max_size=10), kappa=st.floats(0.25, 4))
def test_splitting_a_job_never_makes_it_cheaper(model: CostModel, parts: list[int], kappa: float) -> None:
    whole = POLICY.clamp(kappa * drawing(model, n=sum(parts)))
    split = sum(POLICY.clamp(kappa * drawing(model, n=part)) for part in parts)
    assert split >= whole * (1 - 1e-12)


def test_guidance_over_1_counts_twice_where_the_network_runs_twice() -> None:
    twice = CostModel(fixed=0.0, pixel=0.0, guidance_doubles=True)
    once = CostModel(fixed=0.0, pixel=0.0)
    assert drawing(twice, guidance=3.0) == 2 * drawing(twice, guidance=1.0) == 2 * drawing(once, guidance=3.0)


def test_a_smaller_change_counts_less_where_it_leaves_out_steps() -> None:
    model = CostModel(fixed=0.0, pixel=0.0, strength_shortens=True)

    def changing(strength: float | None) -> float:
        asked = ImageToImage(image="i", steps=10, strength=strength)
        return base_cost(msgspec.structs.replace(drawer(model), strength=0.5), "image-to-image", asked)

    assert changing(0.25) * 4 == changing(1.0)
    assert changing(None) == changing(0.5)


@pytest.mark.parametrize(
    ("model", "task", "asked", "side", "measured"),
    [
        ("sprout", "text-to-image", TextToImage(prompt="p"), None, 0.27),
        ("sprout", "text-to-image", TextToImage(prompt="p", steps=50), None, 0.57),
        ("sprout", "text-to-image", TextToImage(prompt="p", n=10), None, 2.0),
        ("sprout", "text-to-image", TextToImage(prompt="p", width=1024), None, 4.1),
        ("sprout", "image-to-image", ImageToImage(image="i"), 2048, 0.32),
        ("style-transfer", "stylize", Stylize(image="i", style=3), 512, 0.51),
        ("style-transfer", "stylize", Stylize(image="i", style=3), 1024, 2.1),
        ("style-transfer", "stylize", Stylize(image="i", style=3), 2048, 3.5),
        ("style-transfer", "image-to-image", ImageToImage(image="i", style=3, n=9, steps=90), 512, 0.51),
        ("style-transfer", "stylize", Stylize(image="i", style_image="s"), 512, 0.17),
        ("style-transfer", "stylize", Stylize(image="i", style_image="s"), 2048, 0.74),
        ("realesrgan-x2", "upscale", Upscale(image="i"), 512, 3.3),
        ("realesrgan-x4", "upscale", Upscale(image="i"), 256, 0.93),
    ],
)
def test_the_built_in_models_cost_what_was_measured_within_a_quarter(
    model: str, task: Task, asked: TaskInput, side: int | None, measured: float
) -> None:
    pixels = None if side is None else side * side
    assert base_cost(CARDS[model], task, asked, pixels) == pytest.approx(measured, rel=0.25)


def test_what_was_learnt_is_applied_within_its_bounds_and_read_again_after_a_while(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        learnt = {("sprout", "text-to-image"): 2.0, ("sprout", "image-to-image"): 100.0}

        class Store(SqliteStore):
            async def calibrations(self) -> Mapping[tuple[str, str], float]:
                return dict(learnt)

        costs = Costs(Store(tmp_path / "store.db", clock), POLICY, clock)
        asked = TextToImage(prompt="p", n=10)
        first = await costs.estimate(SPROUT, "text-to-image", asked)
        assert first.estimate == first.counted == 2 * first.base
        changing = await costs.estimate(SPROUT, "image-to-image", ImageToImage(image="i"))
        assert changing.estimate == 4 * changing.base
        learnt["sprout", "text-to-image"] = 3.0
        assert await costs.estimate(SPROUT, "text-to-image", asked) == first
        clock.advance(6)
        assert await costs.estimate(SPROUT, "text-to-image", asked) == first, "nobody waits for the next reading"
        await asyncio.sleep(0)
        assert (await costs.estimate(SPROUT, "text-to-image", asked)).estimate == pytest.approx(3 * first.base)

    asyncio.run(scenario())


def test_without_the_store_the_models_own_numbers_do(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        store = SqliteStore(tmp_path / "store.db", clock)
        with pytest.raises(StoreUnavailable):
            await store.calibrations()
        cost = await Costs(store, POLICY, clock).estimate(SPROUT, "text-to-image", TextToImage(prompt="p"))
        assert cost.estimate == cost.base

    asyncio.run(scenario())


def test_what_is_counted_has_bounds_but_the_estimate_has_none(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        costs = Costs(SqliteStore(tmp_path / "store.db", clock), Policy(max_cost=1.0), clock)
        tiny = await costs.estimate(CARDS["realesrgan-x2"], "upscale", Upscale(image="i"), 16 * 16)
        assert tiny.counted == LEAST_COST > tiny.estimate
        huge = await costs.estimate(CARDS["realesrgan-x2"], "upscale", Upscale(image="i"), 10 * MEGAPIXEL)
        assert huge.counted == 1.0 < huge.estimate

    asyncio.run(scenario())
