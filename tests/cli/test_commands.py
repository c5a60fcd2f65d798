"""The command line: what is asked for on stdout, everything else on stderr, errors in one line."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path

import openpyxl
import pandas as pd
import pytest

from cdpanalytics import cli
from cdpanalytics.archive import Archive
from cdpanalytics.metrics.registry import REGISTRY
from cdpanalytics.presentation import output
from cdpanalytics.simulator import Fleet, Simulator
from tests.metrics.asked import OF_SESSIONS
from tests.test_many_doors import COMMANDS


@pytest.fixture(scope="module")
def archive(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive synced by the command line itself."""
    path = tmp_path_factory.mktemp("cli") / "archive"
    with pytest.MonkeyPatch.context() as patch, Simulator(fleet) as server:
        patch.setenv("CDPANALYTICS_PASSWORD", "demo")
        code = cli.main(
            [
                "sync",
                server.url,
                "--user",
                "demo",
                "--archive",
                str(path),
                "--since",
                "7D",
                "--journal",
            ]
        )
    assert code == 0
    (path / "cdpanalytics.toml").write_text('[zones]\n"*" = "UTC"\n')
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_alone_it_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 0
    assert "Start with: cdpanalytics demo" in out


@pytest.mark.parametrize("name", OF_SESSIONS)
def test_each_metric_is_asked_by_its_command_in_a_test(name: str) -> None:
    command = REGISTRY[name].command
    assert any(words[:2] == ["metrics", command] for words, _ in COMMANDS), (
        f'add (["metrics", "{command}"], lambda s: s.{name}()) to COMMANDS in tests/test_many_doors.py'
    )


def test_it_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"cdpanalytics {version('cdpanalytics')}\n", "")


def test_wrong_usage_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["nonsense"], ["metrics", "rpo"], ["metrics", "speed", "--archive", "x"]):
        code, out, err = run(capsys, *wrong)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert re.fullmatch(r"cdpanalytics: .*; see cdpanalytics.* --help\n", err)


@pytest.mark.parametrize("metric", [spec.command for spec in REGISTRY.values()])
def test_each_metric_in_each_format(
    metric: str, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["metrics", metric, "--archive", archive]
    asked += ["--since", "2D"] if metric == "compare" else []
    code, table, noise = run(capsys, *asked)
    assert code == 0, noise
    assert noise == ""
    least = {"size-anomalies": 1, "offenders": 2}.get(metric, 3)
    assert len(table.splitlines()) >= least, (
        f"{metric} says little about this archive; if so, add it to `least` in tests/cli/test_commands.py"
    )
    _, text, _ = run(capsys, *asked, "--format", "json")
    rows = json.loads(text)
    _, text, _ = run(capsys, *asked, "--format", "csv")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert len(lines) == len(rows)
    assert [list(line) for line in lines] == [list(row) for row in rows]
    target = tmp_path / "out.parquet"
    code, _, _ = run(capsys, *asked, "--format", "parquet", "--output", target)
    assert code == 0
    assert len(pd.read_parquet(target)) == len(rows)


def test_the_longest_gaps_come_first(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["metrics", "gaps", "--archive", archive, "--format", "json"]
    every = sorted((gap["exposure"] for gap in json.loads(run(capsys, *asked)[1])), reverse=True)
    longest = json.loads(run(capsys, *asked, "--longest", "3")[1])
    assert [gap["exposure"] for gap in longest] == every[:3]
    code, _, noise = run(capsys, "metrics", "rpo", "--archive", archive, "--longest", "3")
    assert code == 2
    assert "unrecognized arguments: --longest 3" in noise
    code, _, noise = run(capsys, *asked, "--longest", "0")
    assert code == 2
    assert "'0' is not a whole number from 1" in noise


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("cdpanalytics rep", {"report "}),
        ("cdpanalytics metrics size", {"sizes", "size-trend", "size-anomalies"}),
        ("cdpanalytics sync https://em --jo", {"--journal "}),
        ("cdpanalytics metrics rpo --format j", {"json "}),
    ],
)
def test_tab_completes_commands_metrics_and_options(
    line: str, offered: set[str], tmp_path: Path
) -> None:
    told = tmp_path / "told"
    asked = {
        "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SHELL": "bash",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(told),
        "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9",
    }  # fmt: skip
    command = [sys.executable, "-m", "cdpanalytics"]
    done = subprocess.run(command, env={**os.environ, **asked}, timeout=60, check=False)
    assert done.returncode == 0
    assert set(told.read_text().split("\n")) == offered


def test_check_exits_as_monitoring_expects(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(*asked: object) -> tuple[int, list[str]]:
        code, text, noise = run(capsys, "check", "--archive", archive, "--max-age", "9999D", *asked)
        assert noise == ""
        return code, text.splitlines()

    code, lines = check("--rpo", "9999D", "--objective", "100")
    assert code == 3, "a VM that a policy names was never seen"
    unknown = {line.partition(":")[0] for line in lines[1:] if "never seen" in line}
    assert unknown == {line.partition(":")[0] for line in lines[1:] if line.startswith("UNKNOWN ")}
    seen = [line.split(":")[0].removeprefix("OK ") for line in lines if line.startswith("OK ")]
    code, lines = check("--rpo", "9999D", "--objective", "100", "--policy", seen[0])
    assert (code, lines[0].split()[0]) == (0, "OK:")
    code, lines = check("--rpo", "1s", "--objective", "100")
    assert code == 2
    assert lines[0].startswith("CRITICAL: ")
    assert check("--rpo", "1s", "--objective", "100", "--by", "none")[1][1].startswith(
        "CRITICAL all:"
    )
    code, lines = check("--rpo", "1s", "--since", "2020-01-01", "--until", "2020-02-01")
    assert code == 3
    assert lines[0].startswith("UNKNOWN")
    code, lines = check("--rpo", "soon")
    assert (code, len(lines)) == (3, 1)
    assert lines[0].startswith("UNKNOWN: target='soon' is not a length of time")
    code, text, _ = run(capsys, "check", "--archive", archive)
    assert code == 3, "this archive is of October"
    assert text.startswith("UNKNOWN: the newest data is ")
    code, text, _ = run(capsys, "check", "--archive", tmp_path / "none")
    assert (code, text.startswith("UNKNOWN: ")) == (3, True)


def test_maintenance_windows_come_from_a_file(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "maintenance.csv"
    file.write_text("start,end,policy\n2020-01-01,2030-01-01,\n")
    asked = ["check", "--archive", archive, "--rpo", "1s", "--exclude", file]
    code, text, _ = run(capsys, *asked)
    assert code == 3
    assert "UNKNOWN" in text
    code, text, _ = run(capsys, "check", "--archive", archive, "--exclude", tmp_path / "none.csv")
    assert code == 3
    assert re.fullmatch(r"UNKNOWN: cannot read .*none.csv.*\n", text)


def test_json_speaks_seconds_bytes_and_iso_times(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, text, _ = run(
        capsys, "metrics", "rpo", "--archive", archive, "--format", "json", "--by", "vm"
    )
    sessions, policies = Archive(archive).sessions(), Archive(archive).policies()
    expected = sessions.cdp.rpo_adherence(by="vm", policies=policies)
    rows = json.loads(text)
    assert [row["vm"] for row in rows] == expected["vm"].tolist()
    for row, seconds, adherence in zip(
        rows, expected["breached"].dt.total_seconds(), expected["adherence"], strict=True
    ):
        assert row["breached"] == (None if pd.isna(seconds) else seconds)
        assert row["adherence"] == (None if pd.isna(adherence) else adherence)
    _, text, _ = run(capsys, "metrics", "gaps", "--archive", archive, "--format", "json")
    assert re.fullmatch(
        r"2026-10-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", json.loads(text)[0]["start"]
    )


def test_options_reach_the_metric(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, text, _ = run(
        capsys, "metrics", "rpo", "--archive", archive, "--by", "policy", "--rpo", "1h", "--freq", "D",
        "--since", "2026-10-16", "--until", "2026-10-18", "--format", "json",
    )  # fmt: skip
    rows = json.loads(text)
    assert {row["rpo"] for row in rows} == {3600.0}
    assert {row["period"][:10] for row in rows} == {"2026-10-16", "2026-10-17"}
    _, text, _ = run(
        capsys, "metrics", "rpo", "--archive", archive, "--by", "none", "--format", "json"
    )
    assert len(json.loads(text)) == 1


def test_the_reports_numbers_are_the_command_lines(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    code, out, _ = run(capsys, "report", "--archive", archive, "--output", page)
    assert code == 0
    assert out.strip() == str(page)
    embedded = re.search(
        r'<script type="application/json" id="rpo">(.*?)</script>', page.read_text(), re.S
    )
    assert embedded is not None
    _, text, _ = run(
        capsys,
        "metrics",
        "rpo",
        "--archive",
        archive,
        "--by",
        "backup_server,policy,vm",
        "--format",
        "json",
    )
    assert json.loads(embedded[1]) == json.loads(text)


def test_a_window_gives_the_same_numbers_in_report_and_metrics(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    window = ["--since", "2026-10-17", "--until", "2026-10-19", "--rpo", "30min"]
    page = tmp_path / "report.html"
    run(capsys, "report", "--archive", archive, "--output", page, *window)
    embedded = re.search(
        r'<script type="application/json" id="rpo">(.*?)</script>', page.read_text(), re.S
    )
    assert embedded is not None
    _, text, _ = run(
        capsys, "metrics", "rpo", "--archive", archive, "--by", "backup_server,policy,vm", "--format", "json",
        *window,
    )  # fmt: skip
    assert json.loads(embedded[1]) == json.loads(text)


def test_verify_says_ok_or_what_is_wrong(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "verify", "--archive", archive)
    assert code == 0
    assert re.match(r"ok: \d+ days, \d+ sessions, 0 holes", out)
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(archive), str(copy)], check=True)
    damaged = sorted(copy.glob("sessions/*/*.parquet"))[1]
    damaged.write_bytes(b"PAR1 no longer")
    code, out, _ = run(capsys, "verify", "--archive", copy)
    assert code == 1
    assert damaged.name in out
    assert "verify --set-aside moves unreadable files away; the next sync fetches" in out


def test_a_question_about_time_before_the_archive_says_so(
    archive: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ask = ("metrics", "rpo", "--archive", archive, "--by", "none")
    (server,) = Archive(archive).as_of_by_source()
    first = f"{Archive(archive).first_day(server):%Y-%m-%d}"
    _, _, early = run(capsys, *ask, "--since", "2026-09-01")
    assert f"no sessions of {server} before {first}: the time before is in no figure" in early
    asked = Archive(archive).select(since="2026-09-01")
    (note,) = asked.missing_start()
    assert note in early
    assert asked.pinned().missing_start() == [note]
    page = asked.report(tmp_path / "out.html", summary=True).read_text()
    assert f"The {note[4:]}." in page
    for later in ("7D", first):
        _, _, err = run(capsys, *ask, "--since", later)
        assert "is in no figure" not in err


def test_query_finds_a_vm_with_a_hostile_name(
    fleet: Fleet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDPANALYTICS_USERNAME", "demo")
    monkeypatch.setenv("CDPANALYTICS_PASSWORD", "demo")
    with Simulator(fleet) as server:
        code, out, _ = run(
            capsys, "query", server.url, "--filter", 'VmDisplayName=="a""b;c"', "--format", "json"
        )
        _, references, _ = run(
            capsys, "query", server.url, "--filter", "State==InProgress", "--references", "--format", "csv",
            "--xml", "--descending",
        )  # fmt: skip
    assert code == 0
    assert {row["vm"] for row in json.loads(out)} == {'a"b;c'}
    assert "uid" in references.splitlines()[0]
    assert len(references.splitlines()) > 2


class Proxy(BaseHTTPRequestHandler):
    """A page of HTML, whatever is asked."""

    def answer(self) -> None:
        body = b"<!DOCTYPE html><html><body>Proxy log-on</body></html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def proxy() -> Iterator[str]:
    """The URL of a web page where Enterprise Manager should be."""
    with HTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def assert_one_line_and_nothing_written(
    result: tuple[int, str, str], said: str, *paths: Path
) -> None:
    code, out, err = result
    assert code == 1
    assert out == ""
    assert re.search(said, err), err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for path in paths:
        assert not path.exists()


def test_bad_servers_end_in_one_line(
    fleet: Fleet, proxy: str, folder: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("CDPANALYTICS_USERNAME", "demo")
    monkeypatch.setenv("CDPANALYTICS_PASSWORD", "wrong horse")
    unused = f"http://127.0.0.1:{free_port()}"
    result = run(capsys, "sync", unused, "--archive", folder)
    assert_one_line_and_nothing_written(result, "cannot be reached: connection refused", folder)
    result = run(capsys, "sync", proxy, "--archive", folder)
    assert_one_line_and_nothing_written(result, "does not look like Enterprise Manager", folder)
    with Simulator(fleet) as server:
        result = run(capsys, "sync", server.url, "--archive", folder)
        assert_one_line_and_nothing_written(result, "refused user 'demo'", folder)
        assert "wrong horse" not in result[2]
        assert len([1 for method, *_ in server.requests if method == "POST"]) == 1, "one attempt"
    result = run(capsys, "sync", "ftp://em", "--archive", folder)
    assert_one_line_and_nothing_written(result, "http", folder)


def test_bad_archives_and_selections_end_in_one_line(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    letter = tmp_path / "letters"
    letter.mkdir()
    (letter / "one.txt").write_text("hello")
    for wrong, said in (
        (["--archive", tmp_path / "none"], "no archive at"),
        (["--archive", letter], "is not an archive"),
        (["--archive", archive, "--policy", "Nickel"], "'Nickel'"),
        (["--archive", archive, "--since", "2026-10-19", "--until", "2026-10-17"], "is not before"),
        (["--archive", archive, "--since", "yesterdayish"], "yesterdayish"),
        (["--archive", archive, "--rpo", "fast"], "fast"),
        (["--archive", archive, "--tz", "Mars/Base"], "Mars/Base"),
    ):
        assert_one_line_and_nothing_written(
            run(capsys, "report", "--output", page, *wrong), said, page
        )
        assert_one_line_and_nothing_written(
            run(
                capsys, "metrics", "rpo", "--freq", "D", "--output", page, "--format", "csv", *wrong
            ),
            said,
            page,
        )
    result = run(capsys, "metrics", "rpo", "--archive", archive, "--by", "colour")
    assert_one_line_and_nothing_written(result, "'colour' is not a column")
    for wrong, expected in (
        (["metrics", "durations", "--archive", archive, "--rpo", "1h"], "unrecognized arguments"),
        (["report", "--archive", archive, "--output", page, "--objective", "120"],
         "--objective='120' is above 100 %"),
    ):  # fmt: skip
        code, out, err = run(capsys, *wrong)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert expected in err
    assert not page.exists()


def test_hostile_text_reaches_no_terminal_and_no_formula(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, text, _ = run(capsys, "metrics", "rpo", "--archive", archive, "--format", "csv")
    names = [row["vm"] for row in csv.DictReader(io.StringIO(text))]
    assert not [name for name in names if name.startswith(("=", "+", "-", "@"))]
    assert [name for name in names if name.startswith("'=cmd|")]
    assert output.one_line("a\x1b[31m\nb") == "a [31m b"


def test_demo_leaves_a_report_and_names_the_worst(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "demo", "--directory", tmp_path / "d", "--vms", 8, "--days", 3)
    assert code == 0
    assert "The three worst VMs:" in out
    assert (tmp_path / "d/report.html").is_file()
    assert str((tmp_path / "d/report.html").resolve()) in out
    assert "Synced:" in err
    for wrong, expected in (
        (["--vms", 0], "'0' is not a whole number from 1 to 100,000"),
        (["--days", "99999999"], "'99999999' is not a whole number from 1 to 3,660"),
        (["--days", "9" * 5000], "is not a whole number"),
    ):
        code, out, err = run(capsys, "demo", "--directory", tmp_path / "e", *wrong)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert expected in err
    code, _, err = run(capsys, "simulate", "--vms", 100_000, "--days", 3_660)
    assert (code, err.count("\n")) == (1, 1)
    assert "366,000,000 days of VMs" in err
    assert not (tmp_path / "e").exists()


@pytest.mark.skipif(os.name == "nt", reason="has no SIGTERM")
def test_simulate_ends_on_sigterm_also_where_sigint_is_ignored() -> None:
    """As in a shell's background, where SIGINT is ignored from the start."""
    process = subprocess.Popen(
        [sys.executable, "-c",
         "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
         "sys.argv[1:] = 'simulate --port 0 --vms 3 --days 2'.split(); "
         "from cdpanalytics.cli import run; run()"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert re.match(r"http://127.0.0.1:\d+ \(user demo, password demo\)", line)
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")


def test_what_a_spreadsheet_opens(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--archive", archive, "--tz", "Europe/Berlin"]
    csv_file, sheet, book = (tmp_path / name for name in ("gaps.csv", "gaps.xlsx", "all.xlsx"))
    words = ["metrics", "gaps", *asked, "--format"]
    assert run(capsys, *words, "csv-excel", "--decimal", ",", "--output", csv_file)[0] == 0
    assert csv_file.read_bytes().startswith(
        b"\xef\xbb\xbfbackup_server;vm;policy;start (Europe/Berlin);"
    )
    assert run(capsys, *words, "xlsx", "--output", sheet)[0] == 0
    head = next(openpyxl.load_workbook(sheet)["gaps"].iter_rows(values_only=True))
    assert "Start (Europe/Berlin)" in head
    assert run(capsys, "export", *asked, "--output", book)[0] == 0
    assert openpyxl.load_workbook(book).sheetnames[:3] == ["Summary", "Policies", "VMs"]
    code, _, noise = run(capsys, *words, "csv", "--decimal", ",")
    assert (code, noise.count("\n")) == (1, 1)
    assert "--separator and --decimal go with --format csv-excel" in noise


def test_two_sides_need_no_period_and_one_before_does(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare = ["metrics", "compare", "--archive", str(archive), "--by", "none"]
    assert cli.main([*compare, "--sides", "target=15min,1h", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["left"] == "15min"
    assert cli.main(compare) == 2
    assert "one of the arguments --period --since --sides is required" in capsys.readouterr().err
