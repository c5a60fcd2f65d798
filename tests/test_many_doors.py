"""One question, one answer: every public way to ask gives the same number, to the digit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from cdpanalytics import metrics
from cdpanalytics.cli import main
from cdpanalytics.errors import InputError
from cdpanalytics.execution.partition import BYTES_PER_SESSION, WORKER_OVERHEAD_BYTES
from cdpanalytics.metrics.core.spec import EXPOSURE
from cdpanalytics.metrics.registry import REGISTRY
from cdpanalytics.presentation import formatting
from cdpanalytics.selection import Selection
from tests.builders import START, RandomArchive, random_archive
from tests.conftest import NIGHTLY
from tests.metrics.asked import NEEDED, OF_SESSIONS, TELLING, advice, all_but, taken

pytestmark = pytest.mark.slow

SEEDS = range(20 if NIGHTLY else 1)
SINCE, UNTIL = START + pd.Timedelta("2D"), START + pd.Timedelta("9D")
MIDDLE = START + pd.Timedelta("5D7h")
VM = ["backup_server", "policy", "vm"]
QUESTION = {"retire_after": "3D", "grace": "6h"}


@pytest.fixture(scope="module", params=SEEDS)
def drawn(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> RandomArchive:
    return random_archive(tmp_path_factory.mktemp("doors") / "archive", request.param)


@pytest.fixture(scope="module")
def selection(drawn: RandomArchive) -> Selection:
    return drawn.archive.select(since=SINCE, until=UNTIL, exclude=drawn.exclusions, **QUESTION)


def asked(selection: Selection) -> dict[str, Any]:
    """The same question as arguments of a metric."""
    return {
        "since": SINCE, "until": UNTIL, "policies": selection.policies, "unobserved": selection.holes,
        "exclude": selection.exclusions, **QUESTION,
    }  # fmt: skip


@pytest.mark.parametrize("by", ["policy", "vm", VM, ()], ids=str)
def test_a_frame_answers_as_its_selection(selection: Selection, by: Any) -> None:
    frame = selection.frame()
    assert_frame_equal(
        frame.cdp.rpo_adherence(by=by, **asked(selection)),
        selection.rpo_adherence(by=by),
        check_exact=True,
    )


def test_gaps_of_a_frame_are_those_of_its_selection(selection: Selection) -> None:
    assert_frame_equal(
        selection.frame().cdp.gaps(**asked(selection)),
        selection.gaps(incidents=False),
        check_exact=True,
    )


OF_ITS_FRAME = all_but(
    {
        "compare": "reads the period before",
        "incidents": "reads the surroundings of its window; see below",
        "offenders": "reads the surroundings of its window; see below",
        "gaps": "has its incident in a Selection; see above",
        "worst": "has its incident in a Selection",
    }
)


def answer(selection: Selection, name: str, **given: Any) -> pd.DataFrame:
    """A Selection's method by its name."""
    if not hasattr(selection, name):
        pytest.fail(f"add a method {name} to Selection in cdpanalytics/selection.py")
    table: pd.DataFrame = getattr(selection, name)(**given)
    return table


def own(name: str) -> dict[str, Any]:
    """A metric's own arguments with which it says something; a Selection has its window already."""
    if name == "size_trend":
        return {"horizon": "2026-11-01"}
    given = NEEDED.get(name, {}) | TELLING.get(name, {})
    return {argument: given[argument] for argument in given if argument in REGISTRY[name].own}


def test_every_metric_of_a_frame_is_that_of_its_selection(selection: Selection) -> None:
    cdp, question = selection.frame().cdp, asked(selection)
    for name in OF_ITS_FRAME:
        of_frame = getattr(cdp, name)(**own(name), **taken(name, **question))
        with advice(
            f"{name}: if it needs more than the frame of its window, add it to OF_ITS_FRAME in "
            "tests/test_many_doors.py"
        ):
            assert_frame_equal(of_frame, answer(selection, name, **own(name)), check_exact=True)
    budgets = cdp.objectives(by=(), **question)
    assert_frame_equal(budgets, selection.objectives(by=()), check_exact=True)
    assert set(selection.status()["at"]) == {UNTIL}, "a past window is as it was at its end"


@pytest.fixture
def arguments(drawn: RandomArchive, tmp_path: Path) -> list[str]:
    """The same question on the command line."""
    exclusions = tmp_path / "exclusions.csv"
    drawn.exclusions.to_csv(exclusions, index=False)
    return ["--archive", str(drawn.archive.path), "--since", SINCE.isoformat(), "--until", UNTIL.isoformat(),
            "--exclude", str(exclusions), "--retire-after", "3D", "--grace", "6h"]  # fmt: skip


COMMANDS: list[tuple[list[str], Callable[[Selection], pd.DataFrame]]] = [
    (["metrics", "rpo", "--by", "backup_server,policy,vm"], lambda s: s.rpo_adherence(by=VM)),
    (["metrics", "gaps"], lambda s: s.gaps()),
    (["metrics", "sizes", "--by", "policy"], lambda s: s.sizes(by="policy")),
    (["metrics", "objectives", "--by", "policy"], lambda s: s.objectives(by="policy")),
    (["metrics", "worst", "--by", "policy,vm"], lambda s: s.worst()),
    (["incidents"], lambda s: s.incidents()),
    (
        ["metrics", "incidents", "--within", "1h", "--least", "2"],
        lambda s: s.incidents(within="1h", least=2),
    ),
    (["metrics", "offenders", "--least", "2"], lambda s: s.offenders(least=2)),
    (
        ["metrics", "rpo", "--by", "policy", "--without", "1,2"],
        lambda s: s.rpo_adherence(by="policy", without=[1, 2]),
    ),
    (["metrics", "compare", "--by", "policy"], lambda s: s.compare(by="policy")),
    (["metrics", "durations", "--by", "policy"], lambda s: s.durations(by="policy")),
    (["metrics", "status"], lambda s: s.status()),
    (["status", "--at", MIDDLE.isoformat()], lambda s: s.status(at=MIDDLE)),
    (["metrics", "sizes", "--reading", "volume"], lambda s: s.sizes(reading="volume")),
    (
        ["metrics", "size-trend", "--horizon", "2026-11-01"],
        lambda s: s.size_trend(horizon="2026-11-01"),
    ),
    (["metrics", "what-if", "--rpo", "5min,2h"], lambda s: s.what_if(["5min", "2h"])),
    (
        ["metrics", "recovery-points", "--at", MIDDLE.isoformat()],
        lambda s: s.recovery_points(at=MIDDLE),
    ),
    (["metrics", "quality"], lambda s: s.quality()),
    (["metrics", "size-anomalies", "--by", "policy"], lambda s: s.size_anomalies(by="policy")),
]


@pytest.mark.parametrize(
    ("command", "table"),
    COMMANDS,
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_command_line_answers_as_the_selection(
    selection: Selection,
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    table: Callable[[Selection], pd.DataFrame],
) -> None:
    shared = next(
        (spec.takes for spec in REGISTRY.values() if command[:2] == ["metrics", spec.command]),
        EXPOSURE,
    )
    given = arguments if "exclude" in shared else arguments[:6]
    assert main([*command, *given, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(formatting.json_text(table(selection)))


def test_check_answers_as_the_selection(
    selection: Selection, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["check", *arguments, "--by", "policy"])
    printed = capsys.readouterr().out
    for _, row in selection.objectives(by="policy").iterrows():
        share, used = formatting.share(row["adherence"]), formatting.duration(row["spent"])
        assert f"{row['policy']}: within RPO {share}" in printed
        assert f"used {used} of the allowed {formatting.duration(row['budget'])}" in printed


def test_the_report_answers_as_the_selection(selection: Selection, tmp_path: Path) -> None:
    page = selection.report(tmp_path / "report.html").read_text()
    embedded = re.search(r'<script type="application/json" id="rpo">(.*?)</script>', page, re.S)
    assert embedded is not None
    assert json.loads(embedded[1]) == json.loads(
        formatting.json_text(selection.rpo_adherence(by=VM))
    )


def test_the_explorer_answers_as_the_selection(selection: Selection) -> None:
    explorer = selection.explore()
    whole = selection.rpo_adherence(by=()).iloc[0]
    assert f'<dd class="value">{formatting.share(whole["adherence"])}</dd>' in explorer.tiles
    assert_frame_equal(explorer.analysis.vms, selection.rpo_adherence(by=VM), check_exact=True)


def test_a_metric_function_answers_as_the_selection(selection: Selection) -> None:
    table = metrics.objectives(selection.frame(), by="policy", **asked(selection))
    assert_frame_equal(table, selection.objectives(by="policy"), check_exact=True)


# -- what an analyst does to a frame -------------------------------------------------------


def terms(selection: Selection) -> dict[str, Any]:
    """What is not in the frame itself."""
    given = asked(selection)
    return {name: given[name] for name in given if name not in ("since", "until")}


def joined(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    owners = pd.DataFrame({"vm": [f"vm-{n}" for n in range(4)], "owner": list("abab")})
    return frame.merge(owners, on="vm", how="left")


def concatenated(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    half = len(frame) // 2
    return pd.concat([frame.iloc[half:], frame.iloc[:half]])


def through_csv(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    frame.to_csv(folder / "sessions.csv", index=False)
    return pd.read_csv(folder / "sessions.csv")


def through_parquet(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    frame.to_parquet(folder / "sessions.parquet")
    return pd.read_parquet(folder / "sessions.parquet")


def reindexed(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    return frame.assign(site="Prague").set_index(["vm", "uid"]).sort_index().reset_index()


@pytest.mark.parametrize("change", [joined, concatenated, through_csv, through_parquet, reindexed])
def test_a_frame_answers_the_same_whatever_was_done_to_it(
    selection: Selection, tmp_path: Path, change: Callable[[pd.DataFrame, Path], pd.DataFrame]
) -> None:
    changed = change(selection.frame(), tmp_path)
    answer = changed.cdp.rpo_adherence(by="policy", **terms(selection))
    assert_frame_equal(
        answer, selection.rpo_adherence(by="policy"), check_exact=True, check_dtype=False
    )
    gaps = changed.cdp.gaps(**terms(selection))
    expected = selection.gaps(incidents=False)
    assert_frame_equal(gaps, expected, check_exact=True, check_dtype=False)


def test_two_halves_of_a_window_are_the_whole(drawn: RandomArchive, selection: Selection) -> None:
    middle = SINCE + pd.Timedelta("3D")
    halves = [
        selection.during(since=a, until=b).frame() for a, b in ((SINCE, middle), (middle, UNTIL))
    ]
    answer = pd.concat(halves).cdp.rpo_adherence(by="policy", **terms(selection))
    assert_frame_equal(answer, selection.rpo_adherence(by="policy"), check_exact=True)


def test_a_frame_without_its_neighbours_or_terms_is_refused(selection: Selection) -> None:
    with pytest.raises(InputError, match=r"lacks the sessions outside its window .* frame\(\)"):
        selection.sessions.cdp.rpo_adherence(**terms(selection))
    with pytest.raises(InputError, match=r"terms that were not passed: .*retire_after=3D"):
        selection.frame().cdp.rpo_adherence()


# -- who computes ----------------------------------------------------------------------------

DAILY = ("gaps", "incidents", "compare")
"""Metrics that are asked by ranges each day, beside the questions below."""

BY_RANGES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, own(name)) for name in (OF_SESSIONS if NIGHTLY else DAILY)},
    "adherence": ("rpo_adherence", {"by": "policy"}),
    "daily": ("rpo_adherence", {"by": VM, "freq": "D"}),
    "objectives of all": ("objectives", {"by": ()}),
    "sizes of policies": ("sizes", {"by": "policy"}),
    "worst VMs": ("worst", {"by": "vm"}),
    "breaches": ("breaches", {}),
    "without": ("rpo_adherence", {"by": "policy", "without": [1, 3]}),
    "status in the middle": ("status", {"at": MIDDLE}),
}


@pytest.mark.parametrize(("name", "given"), BY_RANGES.values(), ids=BY_RANGES)
def test_ranges_of_vms_are_the_whole(
    selection: Selection, name: str, given: dict[str, Any]
) -> None:
    ranges = selection.using(memory=WORKER_OVERHEAD_BYTES + 120 * BYTES_PER_SESSION, workers=1)
    found, whole = (answer(each, name, **given) for each in (ranges, selection))
    assert_frame_equal(found, whole, check_exact=True)


def test_processes_are_the_whole(selection: Selection) -> None:
    assert_frame_equal(selection.using(workers=2).gaps(), selection.gaps(), check_exact=True)


def test_a_cluster_is_the_whole(selection: Selection) -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        remote = selection.using(client)
        assert_frame_equal(
            remote.rpo_adherence(by=VM), selection.rpo_adherence(by=VM), check_exact=True
        )
        assert_frame_equal(remote.gaps(), selection.gaps(), check_exact=True)
        assert_frame_equal(remote.incidents(), selection.incidents(), check_exact=True)


# -- incidents: of all VMs together, in a window with its surroundings ------------------------


def test_incidents_are_the_same_by_every_door(selection: Selection) -> None:
    margin = pd.Timedelta("30min")
    wide = selection.during(since=SINCE - margin, until=UNTIL + margin).frame()
    expected = selection.incidents()
    assert_frame_equal(wide.cdp.incidents(**asked(selection)), expected, check_exact=True)
    assert_frame_equal(selection.pinned().incidents(), expected, check_exact=True)
    assert_frame_equal(selection.explore().analysis.selection.incidents(), expected)
    by_frame = wide.cdp.rpo_adherence(by="policy", without=[1, 2], **asked(selection))
    assert_frame_equal(
        by_frame, selection.rpo_adherence(by="policy", without=[1, 2]), check_exact=True
    )


def test_a_frame_without_the_surroundings_of_its_window_is_refused(selection: Selection) -> None:
    with pytest.raises(InputError, match="with the 30 min before and after the window"):
        selection.frame().cdp.incidents(**asked(selection))


def test_incidents_add_up_to_the_breached_time(drawn: RandomArchive, selection: Selection) -> None:
    asked_of = [selection, drawn.archive.select()]
    asked_of += [selection.where(policy=name) for name in ("Gold", "Silver", "Office hours")]
    for each in asked_of:
        whole, table = each.rpo_adherence(by=()).iloc[0], each.incidents()
        assert table["breached"].sum() == whole["breached"]
        without = each.rpo_adherence(by=VM, freq="D", without=[1, 3])
        saved = (without["breached"] - without["breached_without"]).sum()
        assert saved == table["breached"].iloc[[0, 2]].sum()


@pytest.mark.parametrize("policy", ["Gold", "Silver"])
def test_all_of_a_policy_is_the_sum_of_its_vms(drawn: RandomArchive, policy: str) -> None:
    chosen = drawn.archive.select(since=SINCE, until=UNTIL, policy=policy)
    whole, vms = chosen.rpo_adherence(by=()).iloc[0], chosen.rpo_adherence(by=VM)
    for column in ("observed", "exposed", "breached", "gaps", "sessions", "failed"):
        assert whole[column] == vms[column].sum(), column
    assert whole["worst_gap"] == vms["worst_gap"].max()


@pytest.mark.parametrize("policy", ["Gold", "Silver"])
def test_a_filter_of_policies_is_the_same_by_every_door(drawn: RandomArchive, policy: str) -> None:
    gold = drawn.archive.select(since=SINCE, until=UNTIL, policy=policy)
    expected = gold.rpo_adherence(by=VM)
    known = {"policies": gold.policies, "unobserved": gold.holes}
    assert_frame_equal(gold.frame().cdp.rpo_adherence(by=VM, **known), expected, check_exact=True)
    ranges = gold.using(memory=WORKER_OVERHEAD_BYTES + 120 * BYTES_PER_SESSION, workers=1)
    assert_frame_equal(ranges.rpo_adherence(by=VM), expected, check_exact=True)
    assert_frame_equal(gold.pinned().rpo_adherence(by=VM), expected, check_exact=True)
