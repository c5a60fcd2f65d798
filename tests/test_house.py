"""The repository as a whole: layers, language, dependencies, wheel."""

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


def test_imports_keep_to_the_layers() -> None:
    """Style and types are checked by ``make lint``."""
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_module_is_longer_than_500_lines() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in (ROOT / "cdpanalytics").rglob("*.py")
    }
    assert {path: length for path, length in lengths.items() if length > 500} == {}


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
    extras = PROJECT["optional-dependencies"].values()
    for line in [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]:
        name = re.match(r"[\w-]+", line).group()  # type: ignore[union-attr]
        assert re.search(rf"\b{name}\b", note), f"{name} is not in the decision note"


HEAVY = [
    "matplotlib",
    "requests",
    "requests_cache",
    "ipywidgets",
    "scipy",
    "lxml",
    "jinja2",
    "keyring",
]


@pytest.mark.parametrize(
    "code",
    ["import cdpanalytics", *(f"import cdpanalytics.cli as c; c.parser().parse_args({arguments})"
                              for arguments in (["--help"], ["sync", "--help"], ["metrics", "rpo", "-h"]))],
)  # fmt: skip
def test_neither_the_package_nor_its_help_loads_anything_heavy(code: str) -> None:
    loaded = f"print([m for m in {HEAVY} if m in sys.modules])"
    code = f"import sys\ntry:\n {code}\nexcept SystemExit: pass\n{loaded}"
    assert run(sys.executable, "-c", code).stdout.splitlines()[-1] == "[]"


def test_the_metrics_load_neither_drawing_nor_the_network() -> None:
    code = f"import sys, cdpanalytics.metrics; print([m for m in {HEAVY} if m in sys.modules])"
    assert run(sys.executable, "-c", code).stdout.strip() == "[]"


@pytest.mark.parametrize(
    "code",
    [
        "import cdpanalytics; import pandas",
        "import pandas; import cdpanalytics",
        "import cdpanalytics, importlib; importlib.reload(cdpanalytics); import pandas",
    ],
    ids=["before", "after", "twice"],
)
def test_frames_have_their_cdp_whenever_pandas_is_imported(code: str) -> None:
    code += "\nassert pandas.DataFrame().cdp.gaps.__func__ is pandas.DataFrame.cdp.gaps"
    done = run(sys.executable, "-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_sync_and_report_are_functions_whatever_was_imported_before() -> None:
    code = (
        "from cdpanalytics.synchronize import plan; from cdpanalytics.questions import report;"
        "import cdpanalytics as cdp; assert cdp.report is report and callable(cdp.sync);"
        "from cdpanalytics.synchronize import sync; print(cdp.sync is sync)"
    )
    assert run(sys.executable, "-c", code).stdout.strip() == "True"


@pytest.mark.slow
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
