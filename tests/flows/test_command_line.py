"""The commands as users run them: processes of their own against a real gateway, or one that they start themselves."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.gateway import PATIENCE, RunningGateway, eventually, free_port, open_picture, picture

CLI = [sys.executable, "-m", "sluicegate"]
HUGE = (1_200, 900)
"""A picture whose enlarging takes so long that it can be interrupted."""


def sluicegate(
    gateway: RunningGateway, *arguments: str, folder: Path, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """A command run to its end."""
    return subprocess.run(
        [*CLI, *arguments],
        cwd=folder,
        env=environment(gateway.url),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def environment(url: str | None) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLUICEGATE")}
    return {**inherited, **({"SLUICEGATE_URL": url} if url else {})}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with a small picture."""
    (tmp_path / "in.png").write_bytes(picture())
    return tmp_path


def test_chat_prints_the_answer_and_nothing_else(gateway: RunningGateway, folder: Path) -> None:
    done = sluicegate(gateway, "chat", "--max-tokens", "12", "Say", "hello", folder=folder)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert done.stderr == ""


def test_chat_reads_a_pipe_and_answers_in_json(gateway: RunningGateway, folder: Path) -> None:
    done = sluicegate(gateway, "chat", "--max-tokens", "5", "--json", folder=folder, stdin="Say hello")

    answer = json.loads(done.stdout)
    assert answer["model"] == "smollm2-135m"
    assert answer["usage"]["completion_tokens"] == 5


def test_chat_with_an_unknown_model_names_those_that_exist(gateway: RunningGateway, folder: Path) -> None:
    done = sluicegate(gateway, "chat", "--model", "smollm2", "hello", folder=folder)

    assert done.returncode == 1
    assert "smollm2-135m" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "name", "size"),
    [
        (["--style", "7", "--strength", "0.5"], "painted.png", (64, 48)),
        (["--style-image", "in.png"], "same-style.webp", (64, 48)),
        (["--scale", "2"], "large.jpg", (128, 96)),
        (["--model", "realesrgan-x4"], "larger.png", (256, 192)),
        (["a river", "--seed", "3"], "river.png", (128, 128)),
        (["a river", "--model", "style-transfer"], "river-in-style.png", (64, 48)),
    ],
)
def test_generate_saves_what_was_asked_for(
    gateway: RunningGateway, folder: Path, options: list[str], name: str, size: tuple[int, int]
) -> None:
    done = sluicegate(gateway, "generate", "--image", "in.png", *options, "-o", name, folder=folder)

    assert done.returncode == 0, done.stderr
    made = open_picture((folder / name).read_bytes())
    assert made.size == size
    assert made.format == {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[name.rpartition(".")[2]]
    assert done.stdout.startswith(f"{name}  {size[0]}x{size[1]}  ")
    assert sorted(path.name for path in folder.iterdir()) == sorted(["in.png", name])


def test_generate_tells_in_json_what_it_wrote(gateway: RunningGateway, folder: Path) -> None:
    done = sluicegate(gateway, "generate", "-i", "in.png", "--style", "3", "-o", "out.png", "--json", folder=folder)

    value = json.loads(done.stdout)
    assert value["job"]["status"] == "succeeded"
    assert value["files"][0]["path"] == "out.png"
    assert value["files"][0]["size_bytes"] == (folder / "out.png").stat().st_size


def test_generate_refuses_to_overwrite_before_it_asks_for_anything(gateway: RunningGateway, folder: Path) -> None:
    before = jobs(gateway)

    done = sluicegate(gateway, "generate", "--image", "in.png", "--style", "1", "-o", "in.png", folder=folder)

    assert done.returncode == 1
    assert "--force" in done.stderr
    assert jobs(gateway) == before


def test_a_refusal_names_the_field_and_the_mend(gateway: RunningGateway, folder: Path) -> None:
    wrong_style = sluicegate(gateway, "generate", "--image", "in.png", "--style", "99", "-o", "a.png", folder=folder)
    no_picture = sluicegate(gateway, "generate", "--image", __file__, "--style", "1", "-o", "a.png", folder=folder)

    assert wrong_style.returncode == no_picture.returncode == 1
    assert "input.style" in wrong_style.stderr
    assert "0-25" in wrong_style.stderr
    assert "PNG, JPEG" in no_picture.stderr
    assert Path(__file__).name in no_picture.stderr
    assert "request req_" in no_picture.stderr


def test_an_interrupted_generate_withdraws_its_job_and_leaves_nothing(gateway: RunningGateway, folder: Path) -> None:
    (folder / "huge.png").write_bytes(picture(*HUGE))
    command = [*CLI, "generate", "--image", "huge.png", "--scale", "4", "-o", "out.png"]
    before = {job["id"] for job in jobs(gateway)}
    with started(command, folder, gateway.url) as child:
        (job,) = eventually(lambda: [job["id"] for job in jobs(gateway) if job["id"] not in before], bool)
        eventually(lambda: gateway.get(f"/v1/jobs/{job}").json()["status"], lambda status: status == "running")
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=PATIENCE)

    assert child.returncode == 130, errors
    assert f"{job} canceled" in errors
    assert gateway.finished(job)["status"] == "canceled"
    assert sorted(path.name for path in folder.iterdir()) == ["huge.png", "in.png"]


def test_a_job_can_be_listed_shown_watched_and_cancelled(gateway: RunningGateway, folder: Path) -> None:
    job = gateway.submit({"task": "upscale", "input": {"scale": 4, "image": gateway.upload(picture(*HUGE))}})["id"]
    listed = json.loads(sluicegate(gateway, "jobs", "list", "--model", "realesrgan-x4", "--json", folder=folder).stdout)
    assert job in [row["id"] for row in listed]
    assert job in sluicegate(gateway, "jobs", "list", folder=folder).stdout
    assert f"job       {job}" in sluicegate(gateway, "jobs", "show", job, folder=folder).stdout
    with started([*CLI, "jobs", "watch", job, "--json"], folder, gateway.url) as watcher:
        assert watcher.stdout is not None
        seen = [json.loads(next(watcher.stdout))]
        cancelled = sluicegate(gateway, "jobs", "cancel", job, folder=folder)
        out, errors = watcher.communicate(timeout=PATIENCE)
    seen += [json.loads(line) for line in out.splitlines()]

    assert cancelled.returncode == 0
    assert cancelled.stdout.startswith(job)
    assert seen[-1]["status"] == "canceled"
    assert watcher.returncode == 1
    assert "the job was canceled" in errors


def test_cancelling_goes_on_after_a_job_that_is_unknown(gateway: RunningGateway, folder: Path, asset: str) -> None:
    job = gateway.submit({"task": "stylize", "input": {"style": 1, "image": asset}})["id"]
    gateway.finished(job)

    done = sluicegate(gateway, "jobs", "cancel", "job_unknown", job, "--json", folder=folder)

    assert done.returncode == 1
    assert "job_unknown" in done.stderr
    assert [row["id"] for row in json.loads(done.stdout)] == [job]


def test_a_conversation_on_a_terminal_remembers_and_ends(gateway: RunningGateway, folder: Path) -> None:
    with terminal([*CLI, "chat", "--max-tokens", "8"], folder, gateway.url) as (master, child):
        screen = read_until(master, "> ")
        assert "smollm2-135m" in screen
        os.write(master, b"Say hello\n")
        assert "tokens" in read_until(master, "]\r\n> ")
        os.write(master, b"/exit\n")
        assert child.wait(PATIENCE) == 0


def test_ctrl_c_stops_an_answer_and_the_conversation_goes_on(gateway: RunningGateway, folder: Path) -> None:
    with terminal([*CLI, "chat"], folder, gateway.url) as (master, child):
        read_until(master, "> ")
        os.write(master, b"Count from one to a thousand in words\n")
        read_until(master, "words\r\n")
        read_until(master, " ")
        child.send_signal(signal.SIGINT)
        read_until(master, "(stopped)\r\n> ")
        os.write(master, b"/exit\n")
        assert child.wait(PATIENCE) == 0


def test_the_live_table_shows_jobs_until_ctrl_c(gateway: RunningGateway, folder: Path, asset: str) -> None:
    job = gateway.submit({"task": "stylize", "input": {"style": 2, "image": asset}})["id"]
    with terminal([*CLI, "jobs", "watch"], folder, gateway.url) as (master, child):
        assert "state" in read_until(master, job)
        child.send_signal(signal.SIGINT)
        assert child.wait(PATIENCE) == 130


def test_a_bar_shows_the_progress_on_a_terminal(gateway: RunningGateway, folder: Path) -> None:
    command = [*CLI, "generate", "--image", "in.png", "--style", "4", "-o", "out.png"]
    with terminal(command, folder, gateway.url) as (master, child):
        assert "━━━" in read_until(master, "out.png  64x48")
        assert child.wait(PATIENCE) == 0


def test_a_command_starts_a_gateway_of_its_own_and_ends_it(folder: Path) -> None:
    done = subprocess.run(
        own_gateway("generate", "--image", "in.png", "--style", "5", "-o", "out.png", "--data-dir", "data"),
        cwd=folder,
        env=environment(None),
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert open_picture((folder / "out.png").read_bytes()).size == (64, 48)
    assert (folder / "data" / "sluicegate.db").exists()
    assert processes_in(folder) == []


def test_an_interrupted_command_ends_the_gateway_that_it_started(folder: Path) -> None:
    (folder / "huge.png").write_bytes(picture(*HUGE))
    command = own_gateway("generate", "--image", "huge.png", "--scale", "4", "-o", "out.png", "--data-dir", "data")
    with started(command, folder, None) as child:
        assert child.stderr is not None
        for line in child.stderr:
            if "running" in line:
                break
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=PATIENCE)

    assert child.returncode == 130
    assert "canceled" in errors
    assert processes_in(folder) == []


def test_a_killed_command_takes_its_gateway_along(folder: Path) -> None:
    (folder / "huge.png").write_bytes(picture(*HUGE))
    command = own_gateway("generate", "--image", "huge.png", "--scale", "4", "-o", "out.png", "--data-dir", "data")
    with started([*command, "--timeout", "600"], folder, None) as child:
        assert child.stderr is not None
        for line in child.stderr:
            if "running" in line:
                break
        assert len(processes_in(folder)) > 1
        child.kill()
        child.communicate(timeout=PATIENCE)

    assert eventually(lambda: processes_in(folder), lambda left: not left) == []


def test_a_gateway_that_cannot_start_says_why(folder: Path) -> None:
    (folder / "sluicegate.toml").write_text("[server]\nprot = 1\n")

    done = subprocess.run(
        own_gateway("chat", "hello"),
        cwd=folder,
        env=environment(None),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert done.returncode == 1
    assert 'did you mean "port"?' in done.stderr
    assert "Traceback" not in done.stderr


def own_gateway(*arguments: str) -> list[str]:
    """A command that finds nothing at the usual address, whatever runs there on this machine."""
    code = (
        "import sys, sluicegate.cli.connection as connection; from sluicegate.cli import main; "
        f"connection.DEFAULT_URL = 'http://127.0.0.1:{free_port()}'; main(sys.argv[1:])"
    )
    return [sys.executable, "-c", code, *arguments]


def jobs(gateway: RunningGateway) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = gateway.get("/v1/jobs?limit=100").json()["data"]
    return rows


@contextlib.contextmanager
def started(command: list[str], folder: Path, url: str | None) -> Iterator[subprocess.Popen[str]]:
    """A command that is running; killed if the test does not end it."""
    with subprocess.Popen(
        command, cwd=folder, env=environment(url), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            yield child
        finally:
            child.kill()


@contextlib.contextmanager
def terminal(command: list[str], folder: Path, url: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A command on a terminal of its own; the terminal's other end and the process."""
    master, slave = pty.openpty()
    surroundings = {**environment(url), "TERM": "xterm"}
    with subprocess.Popen(command, cwd=folder, env=surroundings, stdin=slave, stdout=slave, stderr=slave) as child:
        os.close(slave)
        try:
            yield master, child
        finally:
            child.kill()
            os.close(master)


def read_until(master: int, words: str) -> str:
    """What the terminal shows up to the words."""
    screen = ""
    while words not in screen:
        screen += os.read(master, 4_096).decode("utf-8", "replace")
    return screen


def processes_in(folder: Path) -> list[int]:
    """Processes whose working directory is the folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (place / "cwd").readlink() == folder:
                found.append(int(place.name))
    return found
