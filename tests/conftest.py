"""What all tests share: a simulated estate and its server, on loopback; how many examples a law is tried on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from cdpanalytics.simulator import Fleet, Simulator

_COMMON = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    "database": None,
    "phases": [Phase.explicit, Phase.generate, Phase.shrink],
}

settings.register_profile("quick", max_examples=50, **_COMMON)
settings.register_profile("check", max_examples=10, derandomize=True, **_COMMON)
settings.register_profile("mutants", max_examples=20, derandomize=True, **_COMMON)
# The verdict on a change is the same each time it is asked for; `make nightly` searches.
settings.register_profile("ci", max_examples=12, derandomize=True, **_COMMON)
settings.register_profile("nightly", max_examples=10_000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
"""Whether the long tests are run at their full size."""

at_night = pytest.mark.skipif(not NIGHTLY, reason="too long for each day: make nightly")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the modules that take longest first, so that no worker is left alone with one at the end."""
    marks = {item.path: set[str]() for item in items}
    for item in items:
        marks[item.path] |= {mark.name for mark in item.iter_markers()}
    items.sort(key=lambda item: ("slow" not in marks[item.path], "browser" in marks[item.path]))


# Simulated estates live in October: their server's clock is not this machine's.
os.environ["CDPANALYTICS_ALLOW_CLOCK_DIFFERENCE"] = "1"

UNTIL = datetime(2026, 10, 20, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test sees this machine's settings, keyring or page cache."""
    for name in ("URL", "USERNAME", "PASSWORD", "CA_BUNDLE"):
        monkeypatch.delenv(f"CDPANALYTICS_{name}", raising=False)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    """Twelve VMs on two servers over six days, the same in every run."""
    return Fleet.generate(vms=12, days=6, seed=3, until=UNTIL, servers=2, policies=4)


@pytest.fixture
def server(fleet: Fleet) -> Iterator[Simulator]:
    """That estate's server, its clock at the estate's end."""
    with Simulator(fleet) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a test's archive goes."""
    return tmp_path / "archive"
