"""Where results are written, and that nothing is lost or half-written."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.scripted_gateway import (
    Answer,
    bytes_answer,
    job_value,
    json_answer,
    problem_answer,
    scripted_gateway,
    stream_answer,
)

from sluicegate.cli.connection import Target, connect
from sluicegate.cli.files import Destination, download, upload
from sluicegate.cli.terminal import Failure, Misuse


def output(data: bytes = b"pixels") -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    return {"id": "asset_1", "sha256": digest, "size_bytes": len(data), "url": "http://gateway/v1/assets/asset_1"}


def fetch(answer: Answer, path: Path) -> None:
    async def scenario() -> None:
        async with scripted_gateway() as gateway, connect(Target(url=gateway.url)) as client:
            gateway.script("GET", "/v1/assets/asset_1", answer)
            await download(client, output(), path)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("name", "form"), [("a.png", "png"), ("a.JPG", "jpeg"), ("a.jpeg", "jpeg"), ("a.webp", "webp")]
)
def test_the_suffix_says_the_format(name: str, form: str) -> None:
    assert Destination(Path(name), force=False).format == form
    assert Destination(None, force=False).format == "png"


@pytest.mark.parametrize("name", ["a.gif", "a", "png"])
def test_a_suffix_that_is_not_made_is_refused_before_the_work(name: str) -> None:
    with pytest.raises(Misuse, match=r"\.png, \.jpg or \.webp"):
        Destination(Path(name), force=True).check(1)


def test_a_file_that_exists_is_overwritten_only_by_force(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"mine")

    with pytest.raises(Failure, match=r"a\.png exists; --force"):
        Destination(path, force=False).check(1)
    Destination(path, force=True).check(1)


def test_many_pictures_are_numbered_and_each_name_is_looked_at(tmp_path: Path) -> None:
    destination = Destination(tmp_path / "a.png", force=False)
    destination.check(3)
    job = job_value("succeeded", outputs=[output()] * 3)
    assert destination.paths(job) == [tmp_path / f"a-{number}.png" for number in (1, 2, 3)]

    (tmp_path / "a-2.png").touch()

    with pytest.raises(Failure, match=r"a-2\.png exists"):
        destination.check(3)
    with pytest.raises(Failure, match="nothing is lost") as caught:
        destination.paths(job)
    assert "http://gateway/v1/assets/asset_1" in caught.value.message


def test_a_folder_that_is_missing_or_in_the_way_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()

    with pytest.raises(Failure, match="is no folder"):
        Destination(tmp_path / "nowhere" / "a.png", force=False).check(1)
    with pytest.raises(Failure, match="is a folder"):
        Destination(tmp_path / "folder.png", force=True).check(1)


def test_without_a_name_the_file_is_named_after_the_job() -> None:
    destination = Destination(None, force=False)

    assert destination.paths(job_value("succeeded", outputs=[output()])) == [Path("job_1.png")]


def test_a_whole_download_is_written_and_nothing_else_is_left(tmp_path: Path) -> None:
    fetch(bytes_answer(b"pixels", "image/png"), tmp_path / "a.png")

    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a.png", b"pixels")]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (bytes_answer(b"pixelz", "image/png"), "damaged"),
        (stream_answer("pix", ends=False), "broke"),
        (problem_answer(404, "no such asset"), "no such asset"),
    ],
)
def test_a_download_that_fails_keeps_the_old_file_and_leaves_nothing(
    tmp_path: Path, answer: Answer, words: str
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    with pytest.raises(Failure, match=words):
        fetch(answer, path)

    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a.png", b"old")]


def test_a_result_that_cannot_be_written_says_where_it_is_kept(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="kept at http://gateway/v1/assets/asset_1"):
        fetch(bytes_answer(b"pixels", "image/png"), tmp_path / "nowhere" / "a.png")


def test_a_refused_upload_names_the_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with scripted_gateway() as gateway, connect(Target(url=gateway.url)) as client:
            fault = {"field": "body", "message": "begins with b'GIF8'"}
            gateway.script("POST", "/v1/assets", json_answer({"code": "image_rejected", "errors": [fault]}, 422))
            path = tmp_path / "a.gif"
            path.write_bytes(b"GIF89a")
            with pytest.raises(Failure, match=r"a\.gif: begins with b'GIF8'"):
                await upload(client, path)
            assert gateway.seen[0].body == b"GIF89a"

    asyncio.run(scenario())
