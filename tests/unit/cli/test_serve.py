"""Starting the gateway: what is refused, in which words, with which exit code."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from sluicegate.cli import main
from sluicegate.cli.serve import examples
from sluicegate.settings import BackendSettings, Settings

PICTURES_ONLY = '[[backends]]\nname = "pictures"\nkind = "local-image"\n[worker]\nprocesses = 0\n'


def sluicegate(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own, run to its end."""
    return subprocess.run(
        [sys.executable, "-m", "sluicegate", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_fault_of_the_settings_is_told_at_once(tmp_path: Path) -> None:
    config = tmp_path / "sluicegate.toml"
    config.write_text('[server]\nprot = 1\nport = 70000\n[worker]\nprocesses = "many"\n')

    result = CliRunner().invoke(main, ["serve", "--config", str(config)])

    assert result.exit_code == 2
    assert result.stdout == ""
    for words in ('did you mean "port"?', "server.port", "worker.processes", "3 faults"):
        assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_a_settings_file_that_is_missing_is_told(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["work", "--config", str(tmp_path / "none.toml")])

    assert result.exit_code == 2
    assert "check --config" in result.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.com"])
def test_an_address_that_others_can_reach_is_refused(host: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["serve", "--host", host, "--data-dir", str(tmp_path / "data")])

    assert result.exit_code == 2
    assert "no keys" in result.stderr
    assert "--insecure" in result.stderr
    assert not (tmp_path / "data").exists()


def test_insecure_is_allowed_but_loud(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["serve", "--host", "192.0.2.7", "--insecure", "--data-dir", str(tmp_path)])

    assert "WARNING" in result.stderr
    assert result.exit_code == 1
    assert '"192.0.2.7" is no address of this machine' in result.stderr


def test_a_port_in_use_is_told_with_the_mend(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(main, ["serve", "--port", port, "--data-dir", str(tmp_path)])

    assert result.exit_code == 1
    assert f"port {port} of 127.0.0.1 is in use" in result.stderr
    assert "--port" in result.stderr


@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["work"]])
def test_a_data_folder_that_cannot_be_made_is_told_without_a_traceback(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")

    result = sluicegate(*command, "--data-dir", "file/data", folder=tmp_path)

    assert result.returncode == 1
    assert result.stderr.startswith(f'Error: the folder "{tmp_path}')
    assert "check data_dir" in result.stderr


def test_settings_of_the_dotenv_file_count_but_real_variables_win(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SLUICEGATE__SERVER__PORT=70001\nSLUICEGATE__SERVER__HOST=192.0.2.7\n")

    result = sluicegate("serve", folder=tmp_path, SLUICEGATE__SERVER__PORT="70002")

    assert result.returncode == 2
    assert "70002" in result.stderr
    assert "70001" not in result.stderr
    assert "192.0.2.7" in sluicegate("serve", folder=tmp_path, SLUICEGATE__SERVER__PORT="0").stderr


def test_the_ready_message_shows_the_address_the_data_and_lines_to_try(tmp_path: Path) -> None:
    (tmp_path / "sluicegate.toml").write_text(PICTURES_ONLY)
    command = [sys.executable, "-m", "sluicegate", "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = [next(child.stdout) for _ in range(6)]
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=60)

    text = "".join(said)
    assert "Sluicegate is ready at http://127.0.0.1:" in text
    assert str(tmp_path / "sluicegate-data") in text
    assert "/docs" in text
    assert text.count("\ncurl ") == 1
    assert child.returncode == 0


def test_a_supervised_gateway_ends_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "sluicegate.toml").write_text(PICTURES_ONLY)
    command = [sys.executable, "-m", "sluicegate", "serve", "--port", "0", "--ready-json"]
    environment = {**os.environ, "SLUICEGATE_SUPERVISED": "1"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert b'"ready": true' in child.stdout.readline()
        child.stdin.close()
        assert child.wait(60) == 0


def test_the_examples_name_models_that_are_there() -> None:
    named = BackendSettings(name="gpu", kind="openai", url="http://gpu/v1", models=("llama-70b",))
    unnamed = BackendSettings(name="gpu", kind="openai", url="http://gpu/v1")

    def lines(settings: Settings) -> list[str]:
        return [line for line in examples(settings, "http://127.0.0.1:1") if line.startswith("curl ")]

    chat, picture = lines(Settings())
    assert '"model":"smollm2-135m"' in chat
    assert "/v1/jobs" in picture
    assert ['"model":"llama-70b"' in line for line in lines(Settings(backends=(named,)))] == [True]
    assert ['"model":"MODEL"' in line for line in lines(Settings(backends=(unnamed,)))] == [True]


@pytest.mark.parametrize("command", [[], ["serve"], ["chat"], ["generate"], ["jobs"], ["jobs", "watch"], ["doctor"]])
def test_help_tells_what_a_command_is_for_and_gives_an_example(command: list[str]) -> None:
    result = CliRunner().invoke(main, [*command, "--help"])

    assert result.exit_code == 0
    assert "sluicegate " in result.stdout.replace("Usage: sluicegate", "") or command == ["jobs"]


def test_help_is_quick_because_nothing_heavy_is_imported(tmp_path: Path) -> None:
    heavy = ("httpx", "rich", "PIL", "numpy", "starlette", "uvicorn", "sluicegate.app", "sluicegate.settings")
    code = f"""
import sys
from sluicegate.cli import main
try:
    main(["--help"])
finally:
    print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == "[]\n"


def test_the_version_is_told(tmp_path: Path) -> None:
    assert sluicegate("--version", folder=tmp_path).stdout.startswith("sluicegate 0.")
