"""Random arguments: every command ends with its exit codes and one line, never with a traceback."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pandas as pd
import pytest

from cdpanalytics import cli
from cdpanalytics.archive import Archive
from cdpanalytics.metrics.registry import REGISTRY

from ..builders import put, random_archive

ROUNDS = 300 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 8
"""Random command lines per command and kind of archive; `make nightly` tries more."""

WORDS = [
    "", " ", "-", "--", "0", "-1", "nan", "inf", "1e400", "9" * 400, "\x00", "\x1b[2J\n", "\ud800", "é日本", "a,b,,",
    "none", "policy", "vm,policy", "[", "*", "%s", "%(prog)s", "{}", "../..", "/dev", "Gold", "Gold*", "vm-1",
]  # fmt: skip
TIMES = [
    "2026-10-03", "2026-10-05T06:00+02:00", "0001-01-01T00:00+14:00", "9999-12-31T23:59-12:00", "0001-01-01",
    "9999-12-31", "now", "7D", "0D", "99999999D", "1h", "2026-13-01", "2026-02-30", "2026-W41", "1,5h", "-3D",
]  # fmt: skip
LENGTHS = [
    "15min",
    "1h",
    "0",
    "0s",
    "-5min",
    "P1M",
    "PT15M",
    "1e9D",
    "999999999999D",
    "1min,1h",
    "15",
]
SHARES = [
    "99.9",
    "100",
    "0",
    "50",
    "nan",
    "inf",
    "-inf",
    "sNaN",
    "1e-400",
    "99,9",
    "1e5",
    "0.5",
    "101",
]
ZONES = ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Mars/Base", "../../etc/passwd", "+02:00"]
VALUES = {
    "--since": TIMES, "--until": TIMES, "--rpo": LENGTHS, "--retire-after": LENGTHS, "--objective": SHARES,
    "--tz": ZONES, "--freq": ["h", "D", "W", "MS", "M"], "--format": ["csv", "json", "table", "parquet", "xlsx", "x"],
    "--by": ["policy", "vm", "none", "backup_server,policy", "colour", "vm,vm", ""],
    "--horizon": ["30D", "2026-12-01", "1s", "0", "9" * 30 + "D", "x"], "--reading": ["size", "volume", "x"],
    "--longest": ["1", "3", "0", "9" * 30, "x"], "--title": WORDS,
    "--vms": ["0", "-1", "9" * 30, "x"], "--days": ["0", "99999999", "1e3"], "--seed": ["-1", "x", "9" * 5000],
    "--port": ["-1", "65536", "x"], "--fault": ["nonsense", "busy:x", "busy:-1", ":", ""],
    "--critical": ["99.9", "99,9", "0.5", "nan", "-1"], "--warning": ["99.9", "50", "1e3", ""],
    "--max-age": ["26h", "0", "9999D", "1M", "-1h"], 
    "--period": ["2026-10", "last month", "2026-W41", "2026-13", "x/y"],
    "--exclude": ["missing.csv", "/dev", "", "exclusions.csv", "garbage.csv"],
    "--output": ["", " ", ".", "no/such/dir/x", "out.bin", "x" * 300, "\x00"],
}  # fmt: skip
FLAGS = ["--help", "--set-aside", "--bogus", "--full", "--xml"]
COMMANDS = [
    ["report"], ["export"], ["check"],
    ["verify"], ["import"],
    ["demo"], ["simulate"], ["sync"], ["doctor"], ["query"], ["login"], ["logout"],
    ["metrics"], *(["metrics", spec.command] for spec in REGISTRY.values()), [],
]  # fmt: skip
URLS = ["https://em..lab", "https://" + "a" * 64 + ".lab", "ftp://em", "http://[::1", "https://em:99999", "http://em",
        "https://user:pw@em", "", "\x00", "https://\ud800", "http://127.0.0.1:9"]  # fmt: skip


def options_of(command: list[str]) -> list[str]:
    """Return the options that a command has."""
    parser = cli.parser()
    for word in command:
        parser = parser._subparsers._group_actions[0].choices[word]  # type: ignore[union-attr,index]
    return [name for name in parser._option_string_actions if name.startswith("--")]


def command_line(rng: random.Random, command: list[str], archive: Path) -> list[str]:
    """Return a random command line: mostly options that the command has, with good and bad values."""
    words, known = list(command), options_of(command)
    if "--archive" in known:
        bad = [str(archive / "none"), "", "\x00"]
        words += ["--archive", rng.choice(bad) if rng.random() < 0.05 else str(archive)]
    if "--output" in known and command != [
        "check"
    ]:  # Parquet is bytes, which no captured text can hold
        words += ["--output", "out.bin"]
    if command[:1] in (["sync"], ["doctor"], ["query"], ["login"], ["logout"]):
        words += [rng.choice(URLS)]
    if command == ["import"]:
        words += [rng.choice(["exclusions.csv", "garbage.csv", "none.csv", "/dev/null"])]
    takes = [name for name in [*VALUES, "--policy", "--vm"] if name in known]
    takes = [name for name in takes if (name, command) != ("--output", ["check"])]
    for _ in range(rng.randint(0, 3)):
        if not takes or rng.random() < 0.05:
            words.append(rng.choice(FLAGS))
            continue
        option = rng.choice(takes)
        words += [option, rng.choice(VALUES.get(option, WORDS) if rng.random() < 0.95 else WORDS)]
    if command[:1] in (["demo"], ["simulate"]):  # never start what takes long or never ends
        words += ["--vms", "0"]
    return words


@pytest.fixture(scope="module", params=["random", "empty"])
def archive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with holes, exclusions and failures, or one without a session."""
    folder = tmp_path_factory.mktemp("fuzz") / "archive"
    if request.param == "random":
        random_archive(folder, 5, days=7, vms=4)
    else:
        day, as_of = pd.Timestamp("2026-10-01", tz="UTC"), pd.Timestamp("2026-10-02", tz="UTC")
        put(Archive(folder), day, [], as_of)
    return folder


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_random_arguments_end_in_one_line(
    command: list[str], archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exclusions.csv").write_text("start,end,vm\n2026-10-03,2026-10-04,vm-1\n")
    (tmp_path / "garbage.csv").write_bytes(b"start,end\n\xff\xfe,,,,\n")
    rng = random.Random(" ".join(command))
    codes = (0, 1, 2, 3) if command == ["check"] else (0, 1, 2)
    for _ in range(ROUNDS):
        words = command_line(rng, command, archive)
        code = cli.main(words)
        out, err = capsys.readouterr()
        assert code in codes, words
        assert "internal error" not in out + err, (words, out, err)
        assert "Traceback" not in out + err, words
        if command == ["check"]:
            assert code != 3 or "UNKNOWN" in out, words
        elif code == 2 or (code == 1 and not out):
            lines = err.splitlines()
            assert all(line.startswith("cdpanalytics: ") for line in lines), (words, err)
            failures = [line for line in lines if not line.startswith("cdpanalytics: warning: ")]
            assert len(failures) == 1, (words, err)
