"""The check: its states after the plugin guidelines, performance data, and gauges for Prometheus."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from cdpanalytics.archive import Archive
from cdpanalytics.cli import main
from cdpanalytics.errors import InputError
from cdpanalytics.presentation import monitoring
from cdpanalytics.presentation.monitoring import Limits, judge
from cdpanalytics.selection import Selection
from tests.builders import DAY, SOURCES, START, put, random_archive

HOUR = pd.Timedelta("1h")
DONE = {"state": "Completed", "result": "Success", "rpo": HOUR}


def three_policies(folder: Path) -> Archive:
    """Write one day of three policies: Bronze is whole, Silver misses 5 h, Gold is open since 23:00."""
    archive = Archive(folder)
    rows = [
        ("bronze-1", "Bronze", 0, 24), ("silver-1", "Silver", 0, 8), ("silver-1", "Silver", 14, 24),
        ("gold-1", "Gold", 0, 22.5), ("gold|2", "Gold", 0, 24),
    ]  # fmt: skip
    table = [
        {"uid": str(n), "vm": vm, "policy": policy, "policy_uid": policy, "backup_server": "vbr0", **DONE,
         "created": START + begun * HOUR, "ended": START + ended * HOUR, "as_of": START + DAY}
        for n, (vm, policy, begun, ended) in enumerate(rows)
    ]  # fmt: skip
    put(archive, START, table, START + DAY)
    return archive


@pytest.fixture
def day(tmp_path: Path) -> Selection:
    archive = three_policies(tmp_path / "archive")
    return archive.select(since=START, until=START + DAY, objective=0.95)


def states(selection: Selection, limits: Limits | None = None, hours: float = 1) -> dict[str, str]:
    table = judge(selection, ["policy"], limits or Limits(), START + DAY + hours * HOUR).table
    return dict(zip(table["policy"], table["state"], strict=True))


def test_each_state_by_hand(day: Selection) -> None:
    # Silver: 5 of 24 h. Gold: uncovered for 1.5 h, half an hour of 48 beyond its target.
    assert states(day) == {"Silver": "CRITICAL", "Gold": "WARNING", "Bronze": "OK"}
    assert states(day, Limits(critical=0.75)) == {"Gold": "WARNING", "Silver": "OK", "Bronze": "OK"}
    expected = {"Silver": "CRITICAL", "Gold": "WARNING", "Bronze": "OK"}
    assert states(day, Limits(critical=0.8, warning=0.99)) == expected
    assert states(day, Limits(critical=0.999)) == expected | {"Gold": "CRITICAL"}


def test_an_old_archive_makes_all_unknown_unless_the_period_is_over(day: Selection) -> None:
    archive = day.source.archive  # type: ignore[attr-defined]
    for hours, state in ((26, "OK"), (26.01, "UNKNOWN")):
        open_ended = archive.select(since=START, objective=0.95)
        assert states(open_ended, hours=hours)["Bronze"] == state
        later = archive.select(since=START, until=START + DAY + HOUR, objective=0.95)
        assert states(later, hours=hours)["Bronze"] == state
        assert states(day, hours=hours)["Bronze"] == "OK"
    assert set(states(open_ended, hours=27).values()) == {"UNKNOWN"}


def test_the_oldest_source_decides_the_age(tmp_path: Path) -> None:
    archive = three_policies(tmp_path / "archive")
    put(archive, START, [], START + DAY - 30 * HOUR, SOURCES[1])
    asked = archive.select(since=START, objective=0.95)
    assert set(states(asked, hours=0).values()) == {"UNKNOWN"}
    assert states(asked, Limits(max_age=30 * HOUR), hours=0)["Bronze"] == "OK"


def test_nothing_observed_is_unknown_and_critical_comes_before_it(day: Selection) -> None:
    before = day.during(since=START - DAY, until=START)
    verdicts = judge(before, ["policy"], Limits(), START + DAY)
    assert (verdicts.state, verdicts.exit_code) == ("UNKNOWN", 3)
    text = monitoring.plugin_text(verdicts)
    assert text.startswith("UNKNOWN: no session matches the selection | ")


PERFORMANCE = re.compile(r"^'(?:[^'=|]|'')+'=-?\d+(?:\.\d+)?(?:%|s)?(?:;[\d.:]*){0,4}$")


def test_the_text_is_as_the_guidelines_have_it(day: Selection) -> None:
    verdicts = judge(day, ["policy", "vm"], Limits(warning=0.99, critical=0.9), START + DAY + HOUR)
    first, *rest = monitoring.plugin_text(verdicts).splitlines()
    text, data = first.split(" | ")
    assert text == (
        "CRITICAL: Silver / silver-1 within RPO 79.16 % of 1 d, objective 95.00 %, used 5 h of the allowed "
        "1 h 12 min; 1 of 4 groups CRITICAL; as of 2026-10-02 00:00 UTC"
    )
    assert data == "'age'=3600s;;93600 'OK'=2 'WARNING'=1 'CRITICAL'=1 'UNKNOWN'=0"
    groups, performance = rest[:4], rest[4:]
    assert [line.split()[0] for line in groups] == ["CRITICAL", "WARNING", "OK", "OK"]
    last, first_datum = groups[3].split(" | ")
    assert "gold¦2" in "".join(groups), "a name cannot begin the performance data"
    assert "|" not in "".join(groups[:3]) + last
    assert first_datum == "'Silver / silver-1'=79.166667%;99:;90:;0;100"
    assert len(performance) == 3
    for datum in [*data.split(" "), first_datum, *performance]:
        assert PERFORMANCE.match(datum), datum


def test_times_are_in_the_zone_asked_for(day: Selection) -> None:
    archive = day.source.archive  # type: ignore[attr-defined]
    berlin = archive.select("2026-10-01", tz="Europe/Berlin")
    text = monitoring.plugin_text(judge(berlin, ["policy"], Limits(), START + DAY))
    assert "as of 2026-10-02 02:00 Europe/Berlin" in text.splitlines()[0]


def test_wrong_limits_and_groups_are_refused(day: Selection) -> None:
    with pytest.raises(InputError, match=r"--warning 90\.00 % is below --critical 99\.00 %"):
        Limits(critical=0.99, warning=0.9)
    with pytest.raises(
        InputError, match="check has no groups by 'colour'; use backup_server, policy, vm"
    ):
        judge(day, ["colour"], Limits(), START + DAY)


SAMPLE = re.compile(r'^(cdp_\w+)(?:\{(?:[a-z]\w*="(?:[^"\\]|\\.)*",?)*\})? (-?\d\S*)$')


def test_gauges_are_the_selections_numbers(day: Selection, tmp_path: Path) -> None:
    tags = tmp_path / "tags.csv"
    tags.write_text('vm,tier\nsilver-1,"a""b\\c"\n')
    archive = day.source.archive  # type: ignore[attr-defined]
    tagged = archive.select(since=START, until=START + DAY, objective=0.95, tags=tags)
    text = monitoring.prometheus_text(judge(tagged, ["tier"], Limits(), START + DAY + HOUR))
    lines = text.splitlines()
    assert text.endswith("\n")
    samples = [line for line in lines if not line.startswith("#")]
    assert all(SAMPLE.match(line) for line in samples), samples
    assert 'cdp_breached_seconds{tag_tier="a\\"b\\\\c"} 18000.0' in samples
    assert 'cdp_vms{tag_tier="",state="breached"} 1.0' in samples
    assert "cdp_archive_age_seconds 3600.0" in samples
    assert (
        f'cdp_as_of_timestamp_seconds{{source="{SOURCES[0]}"}} {(START + DAY).timestamp()}'
        in samples
    )
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(set(names)) == len(names)
    assert {line.split("{")[0].split(" ")[0] for line in samples} == set(names)


def test_prometheus_itself_reads_the_gauges(tmp_path: Path) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    tags = tmp_path / "tags.csv"
    tags.write_text('vm,tier\nsilver-1,"a""b\\c"\ngold*,S\u00e4le\n')
    archive = three_policies(tmp_path / "archive")
    tagged = archive.select(since=START, until=START + DAY, objective=0.95, tags=tags)
    text = monitoring.prometheus_text(judge(tagged, ["tier"], Limits(), START + DAY + HOUR))
    families = {family.name: family for family in parser.text_string_to_metric_families(text)}
    assert {family.type for family in families.values()} == {"gauge"}
    read = {s.labels["tag_tier"]: s.value for s in families["cdp_adherence_ratio"].samples}
    table = tagged.objectives(by="tier")
    expected = zip(table["tier"].astype("object").fillna(""), table["adherence"], strict=True)
    assert read == dict(expected)
    assert set(read) == {'a"b\\c', "S\u00e4le", ""}


def test_the_file_is_replaced_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = random_archive(tmp_path / "archive", 1)
    target = tmp_path / "cdp.prom"
    target.write_text("old")
    before = target.stat().st_ino
    words = [
        "check",
        "--archive",
        str(drawn.archive.path),
        "--max-age",
        "99999D",
        "--format",
        "prometheus",
    ]
    code = main([*words, "--output", str(target)])
    assert (code, capsys.readouterr().out) == (2, "")
    assert target.read_text().startswith("# HELP cdp_adherence_ratio ")
    assert target.stat().st_ino != before, "renamed into place, never half written"
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".prom"] == ["cdp.prom"]


def test_usage_and_conflicting_dates_are_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = random_archive(tmp_path / "archive", 1)
    archive = ["--archive", str(drawn.archive.path)]
    for words, text in (
        (["--bogus"], "UNKNOWN: unrecognized arguments: --bogus"),
        (["--critical", "99,9"], "UNKNOWN: argument --critical: "),
        (["--max-age", "soon"], "UNKNOWN: --max-age='soon' is not a length"),
        (["--warning", "90", "--critical", "99"], "UNKNOWN: --warning 90.00 % is below"),
        (["--period", "last month"], "UNKNOWN: 'last month' is 2026-09-01 to 2026-09-30 by the newest fetch"),
    ):  # fmt: skip
        code = main(["check", *archive, *words])
        printed = capsys.readouterr().out
        assert (code, len(printed.splitlines())) == (3, 1), words
        assert printed.startswith(text)
    assert main(["metrics", "rpo", *archive, "--period", "last month"]) == 1
    assert "by this machine's clock" in capsys.readouterr().err
