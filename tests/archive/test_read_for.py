"""A frame knows which window its sessions were read for: outside of it rows are missing, and would be gaps."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdpanalytics import metrics
from cdpanalytics.archive import Archive
from cdpanalytics.errors import InputError
from cdpanalytics.server.client import EnterpriseManager
from cdpanalytics.simulator import Fleet, Simulator
from cdpanalytics.synchronize import sync
from tests.builders import mapped
from tests.metrics.asked import advice, all_but, ask

pytestmark = pytest.mark.slow

WINDOW = {"since": "2026-10-16", "until": "2026-10-18"}

NEEDS_ITS_WINDOW_ALONE = all_but(
    {
        "compare": "is asked with a since of its own; see below",
        "incidents": "needs the sessions around its window as well",
        "offenders": "needs the sessions around its window as well",
    }
)
METRICS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in NEEDS_ITS_WINDOW_ALONE), ("rpo_adherence", {"freq": None}),
]  # fmt: skip


@pytest.fixture(scope="module")
def archive(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    archive = Archive(tmp_path_factory.mktemp("read_for") / "archive")
    with (
        Simulator(fleet) as server,
        EnterpriseManager(server.url, "demo", "demo", cache=False) as em,
    ):
        sync(em, archive, since="7D", progress=False)
    return archive


@pytest.mark.parametrize(("name", "asked"), METRICS)
@pytest.mark.parametrize("history", [False, True])
def test_a_metric_that_is_given_no_window_keeps_to_it(
    archive: Archive, name: str, asked: dict[str, Any], history: bool
) -> None:
    rows = archive.sessions(**WINDOW, history=history)
    with advice(
        f"{name}: if its window is not all that it needs, add it to NEEDS_ITS_WINDOW_ALONE in "
        "tests/archive/test_read_for.py"
    ):
        pd.testing.assert_frame_equal(ask(name, rows, **asked), ask(name, rows, **asked, **WINDOW))


def test_the_days_after_it_are_no_gap(archive: Archive) -> None:
    every = archive.sessions()
    assert (every["as_of"] > pd.Timestamp("2026-10-18", tz="UTC")).any()
    whole = metrics.rpo_adherence(every, by=(), **WINDOW)
    part = metrics.rpo_adherence(archive.sessions(**WINDOW, history=True), by=())
    columns = ["observed", "exposed", "breached", "gaps", "breaches", "worst_gap", "adherence"]
    pd.testing.assert_frame_equal(part[columns], whole[columns])


def whose(rows: pd.DataFrame) -> pd.Series:
    return rows["backup_server"].astype("str") + "/" + rows["vm"].astype("str")


@settings(max_examples=12)
@given(
    first=st.integers(0, 6 * 24),
    hours=st.integers(1, 60),
    after=st.sampled_from([None, "6h", "2D"]),
)
def test_a_window_with_its_history_answers_as_the_whole(
    archive: Archive, first: int, hours: int, after: str | None
) -> None:
    since = pd.Timestamp("2026-10-14", tz="UTC") + pd.Timedelta(hours=first)
    window = {"since": since, "until": since + pd.Timedelta(hours=hours)}
    every, part = archive.sessions(), archive.sessions(**window, history=True)
    asked = {"by": ("backup_server", "vm"), "retire_after": after}
    among = every[whose(every).isin(whose(every[every["created"] < window["until"]]))]
    pd.testing.assert_frame_equal(part.cdp.gaps("1min"), among.cdp.gaps("1min", **window))
    pd.testing.assert_frame_equal(
        part.cdp.rpo_adherence("1min", **asked), among.cdp.rpo_adherence("1min", **asked, **window)
    )
    for freq in ("h", "D"):
        pd.testing.assert_frame_equal(
            part.cdp.sizes(by="policy", freq=freq, retire_after=after),
            among.cdp.sizes(by="policy", freq=freq, retire_after=after, **window),
        )
    pd.testing.assert_frame_equal(
        part.cdp.durations(by="policy"), among.cdp.durations(by="policy", **window)
    )
    by_ranges = mapped(
        archive, metrics.rpo_adherence, target="1min", **asked, **window, workers=1, progress=False
    )
    pd.testing.assert_frame_equal(by_ranges, part.cdp.rpo_adherence("1min", **asked))


@pytest.mark.parametrize(("name", "asked"), METRICS)
@pytest.mark.parametrize(
    "larger", [{"since": "2026-10-15T23:59:59"}, {"until": "2026-10-18T00:00:01"}]
)
def test_a_larger_window_is_refused(
    archive: Archive, name: str, asked: dict[str, Any], larger: dict[str, str]
) -> None:
    rows = archive.sessions(**WINDOW, history=True)
    with pytest.raises(InputError, match=f"{next(iter(larger))}=.* is outside .* read more"):
        ask(name, rows, **asked, **larger)


def test_a_smaller_one_is_as_of_everything(archive: Archive) -> None:
    inner = {"since": "2026-10-16T06:00", "until": "2026-10-17T06:00"}
    found = metrics.gaps(archive.sessions(**WINDOW, history=True), **inner)
    pd.testing.assert_frame_equal(found, metrics.gaps(archive.sessions(), **inner))


def test_periods_to_compare_must_have_been_read(archive: Archive) -> None:
    rows = archive.sessions(**WINDOW, history=True)
    with pytest.raises(InputError, match=r"since=.* is outside"):
        metrics.compare(rows, since="2026-10-16", until="2026-10-18")
    found = metrics.compare(rows, since="2026-10-17")
    pd.testing.assert_frame_equal(
        found, metrics.compare(rows, since="2026-10-17", until="2026-10-18")
    )


def test_without_a_window_nothing_is_bound(archive: Archive) -> None:
    metrics.gaps(archive.sessions(), since="2020-01-01", until="2030-01-01")


def test_a_servers_answer_knows_it_too(server: Simulator) -> None:
    def ask(**window: Any) -> pd.DataFrame:
        with EnterpriseManager(server.url, "demo", "demo", cache=False) as em:
            return em.sessions(**window)

    rows = ask(**WINDOW)
    pd.testing.assert_frame_equal(metrics.gaps(rows), metrics.gaps(rows, **WINDOW))
    recent = ask(since="2D")
    metrics.gaps(recent, until="2030-01-01")
    with pytest.raises(InputError, match="outside"):
        metrics.gaps(recent, since="2026-10-01")
