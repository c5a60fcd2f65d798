"""The house stands as it was drawn: layers, types, style, dependencies, wheel."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

CONDA_NAMES = {"matplotlib": "matplotlib-base", "tzdata": "python-tzdata"}


def run(*command: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize(
    "command",
    [
        ("-m", "importlinter.cli", "lint"),
        ("-m", "ruff", "check", "."),
        ("-m", "ruff", "format", "--check", "."),
        ("-m", "mypy"),
    ],
    ids=["layers", "ruff", "format", "types"],
)
def test_the_checks_pass(command: tuple[str, ...]) -> None:
    if "importlinter.cli" in command:
        command = (
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
        )
    done = run(sys.executable, *command)
    assert done.returncode == 0, done.stdout + done.stderr


def test_conda_gets_the_same_packages_and_bounds() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = {line for line in environment if isinstance(line, str)}
    extras = PROJECT["optional-dependencies"]
    wanted = {f"python{PROJECT['requires-python']}", "pip"}
    for line in [*PROJECT["dependencies"], *extras["lab"], *extras["report"]]:
        name, bound = re.fullmatch(r"([\w-]+)(.*)", line).groups()  # type: ignore[union-attr]
        wanted.add(CONDA_NAMES.get(name, name) + bound)
    assert conda == wanted


def test_each_dependency_has_its_reason() -> None:
    note = (ROOT / "docs/decisions/0002-dependencies.md").read_text()
    for line in PROJECT["dependencies"]:
        name = re.match(r"[\w-]+", line).group()  # type: ignore[union-attr]
        assert re.search(rf"\b{name}\b", note), f"{name} is not in the decision note"


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = [
        "matplotlib",
        "requests",
        "requests_cache",
        "ipywidgets",
        "scipy",
        "lxml",
        "jinja2",
        "keyring",
    ]
    code = f"import sys, cdpanalytics; print([m for m in {heavy} if m in sys.modules])"
    assert run(sys.executable, "-c", code).stdout.strip() == "[]"


def test_sync_and_report_are_functions_whatever_was_imported_before() -> None:
    code = (
        "from cdpanalytics.sync import plan; from cdpanalytics.report import report;"
        "import cdpanalytics as cdp; assert cdp.report is report and callable(cdp.sync);"
        "print(cdp.sync.__module__)"
    )
    assert run(sys.executable, "-c", code).stdout.strip() == "cdpanalytics.sync"


def test_the_wheel_carries_all_it_needs_and_runs_the_demo(tmp_path: Path) -> None:
    built = run(
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path / "dist"),
    )
    assert built.returncode == 0, built.stdout + built.stderr
    wheel = next((tmp_path / "dist").glob("*.whl"))
    with zipfile.ZipFile(wheel) as files:
        names = files.namelist()
        files.extractall(tmp_path / "site")
    shipped = {p.relative_to(ROOT).as_posix() for p in (ROOT / "cdpanalytics").rglob("*")
               if p.is_file() and "__pycache__" not in p.parts}  # fmt: skip
    assert shipped <= set(names)
    assert "cdpanalytics/py.typed" in names
    done = subprocess.run(
        [sys.executable, "-m", "cdpanalytics", "demo", "--directory", "out", "--vms", "6", "--days", "3"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": "", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/report.html").stat().st_size > 10_000
