"""Random arguments: every command ends with its exit codes and one line, never with a traceback."""

from __future__ import annotations

import random
from pathlib import Path

import pandas as pd
import pytest

from cdpanalytics import cli
from cdpanalytics.archive import Archive
from cdpanalytics.metrics.registry import REGISTRY

from ..builders import put, random_archive
from ..conftest import NIGHTLY

pytestmark = pytest.mark.slow

ROUNDS = 300 if NIGHTLY else 3
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
    "--reading": ["size", "volume", "x"],
    "--longest": ["1", "3", "0", "9" * 30, "x"], "--title": WORDS,
    "--vms": ["0", "-1", "9" * 30, "x"], "--days": ["0", "99999999", "1e3"], "--seed": ["-1", "x", "9" * 5000],
    "--port": ["-1", "65536", "x"], "--fault": ["nonsense", "busy:x", "busy:-1", ":", ""],
    "--critical": ["99.9", "99,9", "0.5", "nan", "-1"], "--warning": ["99.9", "50", "1e3", ""],
    "--max-age": ["26h", "0", "9999D", "1M", "-1h"],
    "--period": ["2026-10", "last month", "2026-W41", "2026-13", "x/y", "0001", "this week",
                 "last 99999999 days"],
    "--exclude": ["missing.csv", "/dev", "", "exclusions.csv", "garbage.csv", "tags.csv", "calendar.ics"],
    "--grace": LENGTHS, "--within": LENGTHS, "--merge": LENGTHS, "--least": ["1", "2", "0", "9" * 30, "x"],
    "--horizon": [*LENGTHS, *TIMES], "--at": TIMES, "--as-of": TIMES,
    "--without": ["1", "1,2", "0", "-1", "9" * 30, "x", ""],
    "--tags": ["tags.csv", "garbage.csv", "missing.csv", "/dev", "", "calendar.ics"],
    "--tag": ["department=Finance", "department=", "=x", "colour=red", "department=[", "vm=vm-1"],
    "--estate": ["estate.toml", "garbage.csv", "missing.toml", "/dev", ""],
    "--sides": ["policy=Gold,Silver", "rpo=15min,1h", "rpo=x,y", "server=vbr0,vbr1", "department=Finance,Sales",
                "vm=vm-1,vm-2", "policy=Gold", "=,", "vm=a,a"],
    "--order": ["breached", "incident", "x"], "--separator": [",", ";", "tab", "x", ""], "--decimal": [",", ".", ""],
    "--sort": ["CreationTimeUTC", *WORDS], "--filter": ["VmDisplayName==db-1", "State==Success;", ";;", *WORDS],
    "--ca-bundle": ["garbage.csv", "missing.pem", "/dev"], "--user": WORDS, "--source": WORDS,
    "--column": ["vm=Maschine", "vm=", "=", "colour=x", *WORDS], "--result": ["Erfolg=Success", "Fehler=x", *WORDS],
    "--unit": ["GB", "bytes", "x", "", "9" * 30],
    "--output": ["", " ", ".", "no/such/dir/x", "out.bin", "x" * 300, "\x00"],
}  # fmt: skip
FLAGS = [
    "--help", "--set-aside", "--bogus", "--full", "--xml", "--no-exclude", "--no-estate", "--summary", "--insecure",
    "--descending", "--references", "--quick", "--journal", "--day-first", "--month-first",
]  # fmt: skip
COMMANDS = [
    ["report"], ["export"], ["check"],
    ["verify"], ["import"], ["incidents"], ["status"],
    ["demo"], ["simulate"], ["sync"], ["doctor"], ["query"], ["login"], ["logout"],
    ["metrics"], *(["metrics", spec.command] for spec in REGISTRY.values()), [],
]  # fmt: skip
IMPORTED = [
    "exclusions.csv", "garbage.csv", "none.csv", "/dev/null", "sessions.csv", "german.csv", "page.json", "page.xml",
    "tags.csv", "/dev", "",
]  # fmt: skip
FILES = {
    "exclusions.csv": b"start,end,vm\n2026-10-03,2026-10-04,vm-1\n",
    "garbage.csv": b"start,end\n\xff\xfe,,,,\n",
    "tags.csv": b"vm,department\nvm-1,Finance\nvm-*,Sales\n",
    "estate.toml": b'zone = "Europe/Berlin"\ntags = "tags.csv"\nexclude = "calendar.ics"\nobjective = 99.5\n',
    "calendar.ics": b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nBEGIN:VEVENT\r\nUID:1\r\n"
    b"DTSTAMP:20260101T000000Z\r\nDTSTART:20260902T220000\r\nDTEND:20260903T000000\r\nRRULE:FREQ=WEEKLY\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
    "sessions.csv": b"vm,created,ended,result\na,2026-10-01T00:00Z,2026-10-01T08:00Z,Success\n",
    "german.csv": b"Maschine;Beginn;Ende;Ergebnis\na;01.10.2026 08:00;01.10.2026 16:00;Erfolg\n",
    "page.json": b'{"Entities": {"CdpReplicaTaskSessions": {"CdpReplicaTaskSessions": [{"UID": 1}]}}}',
    "page.xml": b"<QueryResult><Entities><CdpReplicaTaskSessions/></Entities>",
}
"""What a command may be given besides the archive, good and bad."""
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
        words += rng.sample(IMPORTED, rng.randint(1, 2))
    takes = [name for name in [*VALUES, "--policy", "--vm"] if name in known]
    takes = [name for name in takes if (name, command) != ("--output", ["check"])]
    if command == ["import"]:  # never into the archive that the other commands read
        words = [
            str(archive.with_name("imported")) if word == str(archive) else word for word in words
        ]
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
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
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
