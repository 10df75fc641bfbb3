"""The package as it is released: its chat lane compiled, held to the same tests as its sources."""

import ast
import os
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from shutil import which

import pytest
from bench.wheel import compiled_package

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
MODULES: list[str] = SETTINGS["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["modules"]
LANE = ["tests/unit/wire", "tests/unit/doors/lane", "tests/unit/doors/http", "tests/unit/doors/chat"]
RELAYED = [
    "tests/properties/test_http_parser.py",
    "tests/properties/test_lane.py",
    "tests/properties/test_repeated_heads.py",
    "tests/flows/test_chat.py",
    "tests/flows/test_chat_socket.py",
]

can_compile = pytest.mark.skipif(
    which(str(sysconfig.get_config_var("CC") or "cc").split()[0]) is None
    or not (Path(sysconfig.get_path("include")) / "Python.h").is_file(),
    reason="there is no C compiler, or Python's headers are not installed (apt install gcc python3-dev)",
)


@pytest.fixture(scope="module")
def package() -> Path:
    """Where the compiled package is imported from."""
    return compiled_package(ROOT)


def run(package: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    """Python with the compiled package in front of the sources."""
    environment = {**os.environ, "PYTHONPATH": str(package)}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@can_compile
@pytest.mark.timeout(600)
def test_all_that_a_chat_call_runs_through_is_compiled(package: Path) -> None:
    words = f"import importlib; print([importlib.import_module(name).__file__ for name in {MODULES}])"
    done = run(package, "-c", words)
    assert done.returncode == 0, done.stderr
    files = [Path(file) for file in ast.literal_eval(done.stdout)]
    assert {file.suffix for file in files} <= {".so", ".pyd"}
    assert all(package in file.parents for file in files)


@can_compile
@pytest.mark.timeout(600)
@pytest.mark.parametrize("paths", [LANE, RELAYED], ids=["units", "flows"])
def test_the_compiled_lane_passes_the_tests_of_its_sources(package: Path, paths: list[str]) -> None:
    done = run(package, "-m", "pytest", "-p", "no:cacheprovider", "--tb=short", *paths)
    assert done.returncode == 0, done.stdout[-8_000:]


@pytest.mark.parametrize("module", MODULES)
def test_a_compiled_module_has_no_class_that_is_asked_what_it_looks_like(module: str) -> None:
    """mypyc drops the annotations that msgspec reads, and hides class attributes that are read of an instance."""
    source = ROOT / "src" / Path(*module.split("."))
    tree = ast.parse(source.with_suffix(".py").read_text("utf-8"))
    for kind in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        bases = {ast.unparse(base) for base in kind.bases}
        assert "msgspec.Struct" not in bases, f"move {kind.name} to a module that is not compiled"
        valued = [
            ast.unparse(node)
            for node in kind.body
            if (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) != "__slots__")
            or (isinstance(node, ast.AnnAssign) and node.value is not None)
        ]
        assert not valued, f"move {kind.name} to a module that is not compiled: it has {valued}"
