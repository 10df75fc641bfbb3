"""Drawing with the shipped weights: seeds, guidance, given pictures, previews, and what is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sluicegate.backends.local_image.sprout import words
from sluicegate.backends.local_image.sprout.model import SIDE, Bytes, Sprout, Start, Step
from sluicegate.errors import BackendRefused

ROUNDING = 1
"""Of 255: sums of a batch are added up in another order than those of one picture."""


@pytest.fixture(scope="module")
def model() -> Sprout:
    return Sprout(threads=1)


def draw(model: Sprout, prompt: str, seed: int = 3, **asked: Any) -> Bytes:
    picture: Bytes = model.draw([prompt], [seed], **{"steps": 8, **asked}).pictures[0]
    return picture


def on_white(picture: Bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    alpha = picture[..., 3:].astype(np.float64) / 255
    shown: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = np.asarray(picture[..., :3] * alpha + 255 * (1 - alpha))
    return shown


def distance(one: Bytes, other: Bytes) -> float:
    """Mean difference as seen on white, of 255."""
    return float(np.abs(on_white(one) - on_white(other)).mean())


def disc() -> Bytes:
    """A red disc on a transparent ground."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] - SIDE / 2
    picture = np.zeros((SIDE, SIDE, 4), np.uint8)
    picture[x**2 + y**2 < 50**2] = (220, 40, 40, 255)
    return picture


def test_a_picture_is_square_and_its_ground_transparent(model: Sprout) -> None:
    picture = draw(model, "red apple", steps=20)
    assert picture.shape == (SIDE, SIDE, 4)
    assert picture.dtype == np.uint8
    corners = picture[[0, 0, -1, -1], [0, -1, 0, -1], 3]
    assert corners.max() < 64
    assert picture[SIDE // 2, SIDE // 2, 3] > 200


def test_a_red_apple_is_red_and_a_green_one_green(model: Sprout) -> None:
    red, green = (on_white(draw(model, f"{colour} apple", steps=20))[48:96, 40:88] for colour in ("red", "green"))
    assert red[..., 0].mean() > red[..., 1].mean() + 40
    assert green[..., 1].mean() > green[..., 0].mean() + 20


def test_the_same_seed_gives_the_same_bytes(model: Sprout) -> None:
    assert np.array_equal(draw(model, "rocket"), draw(model, "rocket"))


def test_another_process_would_give_the_same_bytes() -> None:
    assert np.array_equal(draw(Sprout(threads=1), "rocket"), draw(Sprout(threads=1), "rocket"))


def test_another_seed_gives_another_picture(model: Sprout) -> None:
    assert distance(draw(model, "rocket", seed=3), draw(model, "rocket", seed=4)) > 0.5


def test_another_prompt_gives_another_picture(model: Sprout) -> None:
    assert distance(draw(model, "rocket"), draw(model, "pizza")) > 10


def test_guidance_changes_the_picture(model: Sprout) -> None:
    free, guided = draw(model, "pizza", guidance=0.0), draw(model, "pizza", guidance=4.0)
    assert distance(free, guided) > 5


def test_without_guidance_the_prompt_is_not_heard(model: Sprout) -> None:
    assert np.array_equal(draw(model, "pizza", guidance=0.0), draw(model, "rocket", guidance=0.0))


def test_a_negative_prompt_changes_the_picture(model: Sprout) -> None:
    assert distance(draw(model, "apple"), draw(model, "apple", negative_prompt="red")) > 0.5


def test_a_blank_negative_prompt_is_none(model: Sprout) -> None:
    assert np.array_equal(draw(model, "apple"), draw(model, "apple", negative_prompt="  "))


def test_a_batch_equals_its_pictures_drawn_one_by_one(model: Sprout) -> None:
    prompts, seeds = ["red apple", "blue cat", "house", ""], [5, 6, 7, 8]
    together = model.draw(prompts, seeds, steps=8).pictures
    for picture, prompt, seed in zip(together, prompts, seeds, strict=True):
        apart = np.abs(picture.astype(int) - draw(model, prompt, seed).astype(int))
        visible = np.minimum(picture[..., 3], 255) > 16
        assert apart[visible].max() <= ROUNDING * 16
        assert apart.mean() < 0.05


def test_strength_0_returns_the_given_picture(model: Sprout) -> None:
    assert np.array_equal(draw(model, "cat", start=Start(disc(), 0.0)), disc())


def test_strength_1_ignores_the_given_picture(model: Sprout) -> None:
    assert np.array_equal(draw(model, "cat", start=Start(disc(), 1.0)), draw(model, "cat"))


def test_more_strength_keeps_less_of_the_given_picture(model: Sprout) -> None:
    weak, strong = (draw(model, "pizza", start=Start(disc(), strength)) for strength in (0.2, 0.9))
    assert distance(weak, disc()) < distance(strong, disc())
    assert distance(weak, disc()) < 20


def test_previews_converge_to_the_result(model: Sprout) -> None:
    told: list[Step] = []
    picture = draw(model, "castle", steps=12, on_step=told.append, preview_every=3)
    assert [(step.done, step.steps) for step in told] == [(number, 12) for number in range(1, 13)]
    previews = [step.preview for step in told if step.preview is not None]
    assert len(previews) == 4
    assert np.array_equal(previews[-1], picture)
    distances = [distance(preview, picture) for preview in previews]
    assert distances[0] > distances[-2] > distances[-1] == 0


def test_what_a_step_raises_ends_the_drawing(model: Sprout) -> None:
    told: list[int] = []

    def stop(step: Step) -> None:
        told.append(step.done)
        if step.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(model, "castle", on_step=stop)
    assert told == [1, 2]


def test_an_empty_prompt_draws_something(model: Sprout) -> None:
    assert draw(model, "")[..., 3].max() > 128


def test_words_never_learnt_are_told_and_passed_over(model: Sprout) -> None:
    drawn = model.draw(["a zorgle and a cat"], [1], negative_prompt="quuxish", steps=4)
    assert drawn.unknown == ("zorgle", "quuxish")
    assert drawn.unread == ()
    assert np.array_equal(draw(model, "a zorgle and a cat"), draw(model, "cat"))


def test_a_misspelt_word_is_read_as_the_one_it_is_like(model: Sprout) -> None:
    assert model.draw(["rockett"], [1], steps=4).unknown == ("rockett",)
    assert np.array_equal(draw(model, "rockett"), draw(model, "rocket"))


def test_where_no_word_is_known_the_spelling_is_read(model: Sprout) -> None:
    assert distance(draw(model, "zorgle"), draw(model, "quux")) > 0.5


def test_a_known_word_is_read_behind_any_number_of_unknown_ones(model: Sprout) -> None:
    noise = " ".join(f"zorgle{number}" for number in range(400))
    drawn = model.draw([f"{noise} rocket"], [1], steps=4)
    assert len(drawn.unknown) == 400
    assert np.array_equal(draw(model, f"{noise} rocket"), draw(model, "rocket"))


def test_words_that_are_too_many_are_told(model: Sprout) -> None:
    prompt = "cat dog fish bird house tree car boat apple pizza rocket"
    drawn = model.draw([prompt], [1], steps=4)
    assert drawn.unread == tuple(prompt.split()[words.WORDS - 1 :])


def test_case_accents_and_small_words_do_not_matter(model: Sprout) -> None:
    assert np.array_equal(draw(model, "A Picture of the RÉD Àpple!"), draw(model, "red apple"))


def test_a_plural_is_known(model: Sprout) -> None:
    assert model.vocabulary.known("rockets")


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda model: draw(model, "cat", steps=3), "steps: sprout takes 4 to 50, got 3"),
        (lambda model: draw(model, "cat", steps=51), "steps: sprout takes 4 to 50, got 51"),
        (lambda model: draw(model, "cat", guidance=13.0), "guidance: sprout takes 0 to 12, got 13"),
        (lambda model: draw(model, "cat", guidance=float("nan")), "guidance: sprout takes 0 to 12, got nan"),
        (lambda model: draw(model, "cat", start=Start(disc(), 1.5)), "strength: must lie between 0 and 1, got 1.5"),
        (lambda model: draw(model, "cat", start=Start(disc()[:64], 0.5)), "got 64 x 128 x 4 of uint8"),
        (lambda model: draw(model, "cat", start=Start(disc()[..., :3], 0.0)), "got 128 x 128 x 3 of uint8"),
        (lambda model: model.draw([], []), "n: sprout draws 1 to 16 pictures at once, got 0"),
        (lambda model: model.draw(["cat"] * 17, [1] * 17), "got 17"),
        (lambda model: model.draw(["cat"], [1, 2]), "1 prompts need as many seeds, got 2"),
    ],
)
def test_what_cannot_work_is_refused(model: Sprout, ask: Callable[[Sprout], Any], said: str) -> None:
    with pytest.raises(BackendRefused) as refused:
        ask(model)
    assert said in str(refused.value)
