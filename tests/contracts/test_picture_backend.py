"""What every picture backend promises, run on each."""

import asyncio
import io
from collections.abc import Callable, Iterator

import pytest
from PIL import Image

from sluicegate.backends.backend import PictureBackend, PictureRequest, PictureResult, Report
from sluicegate.backends.local_image import LocalImage
from sluicegate.domain.generation import ImageToImage, ModelCard, Stylize, TaskInput, TextToImage, Upscale
from sluicegate.domain.job import Progress
from sluicegate.errors import BackendRefused, JobCanceled
from sluicegate.settings import BackendSettings


def local_image() -> PictureBackend:
    return LocalImage(BackendSettings(name="pictures", kind="local-image"))


@pytest.fixture(scope="module", params=[local_image])
def backend(request: pytest.FixtureRequest) -> Iterator[PictureBackend]:
    make: Callable[[], PictureBackend] = request.param
    backend = make()
    yield backend
    asyncio.run(backend.close())


def a_picture(width: int = 48, height: int = 40) -> bytes:
    target = io.BytesIO()
    Image.radial_gradient("L").resize((width, height)).convert("RGB").save(target, "PNG")
    return target.getvalue()


def a_request(card: ModelCard) -> PictureRequest:
    task = next(task for task in card.tasks if task != "chat")
    inputs: dict[str, TaskInput] = {
        "text-to-image": TextToImage(prompt="a red apple", steps=4),
        "image-to-image": ImageToImage(image="given", prompt="a red apple"),
        "stylize": Stylize(image="given", style=3),
        "upscale": Upscale(image="given"),
    }
    images = {} if task == "text-to-image" else {"image": a_picture()}
    return PictureRequest(model=card.id, task=task, input=inputs[task], images=images)


def run(backend: PictureBackend, request: PictureRequest, report: Report = lambda _: None) -> PictureResult:
    return asyncio.run(backend.run(request, report))


def test_its_cards_name_it_and_differ(backend: PictureBackend) -> None:
    cards = backend.cards()
    assert cards
    assert {card.backend for card in cards} == {backend.name}
    assert len({card.id for card in cards}) == len(cards)


def test_each_model_makes_the_picture_that_it_says_it_makes(backend: PictureBackend) -> None:
    for card in backend.cards():
        result = run(backend, a_request(card))
        assert result.pictures
        for picture in result.pictures:
            with Image.open(io.BytesIO(picture.data), formats=[picture.content_type.removeprefix("image/")]) as image:
                image.load()
                assert image.size == (picture.width, picture.height)


def test_a_model_that_was_used_is_loaded(backend: PictureBackend) -> None:
    card = backend.cards()[-1]
    run(backend, a_request(card))
    assert card.id in backend.loaded()
    assert set(backend.loaded()) <= {card.id for card in backend.cards()}


def test_progress_rises_to_the_end_and_counts_its_steps(backend: PictureBackend) -> None:
    for card in backend.cards():
        seen: list[Progress] = []
        run(backend, a_request(card), seen.append)
        values = [progress.value for progress in seen]
        assert values == sorted(values)
        assert values[-1] == 1
        for progress in seen:
            if progress.steps:
                assert progress.value == pytest.approx((progress.step or 0) / progress.steps)


def test_what_report_raises_ends_the_work_and_the_next_job_runs(backend: PictureBackend) -> None:
    card = backend.cards()[0]

    def refuse(_: Progress) -> None:
        raise JobCanceled("the caller withdrew the job")

    with pytest.raises(JobCanceled, match="withdrew"):
        run(backend, a_request(card), refuse)
    assert run(backend, a_request(card)).pictures


def test_an_unknown_model_is_refused(backend: PictureBackend) -> None:
    request = PictureRequest(model="no-such-model", task="upscale", input=Upscale(image="given"), images={})
    with pytest.raises(BackendRefused, match="no-such-model"):
        run(backend, request)
