"""The command line as a real process: closed and full outputs, old encodings, terminals, signals."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from cdpanalytics.archive import Archive
from cdpanalytics.simulator import Fault, Fleet, Simulator

from ..builders import START, put
from ..conftest import NIGHTLY

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-m", "cdpanalytics"]
AS_OF = START + pd.Timedelta("1D")


def session(uid: str, **values: object) -> dict[str, object]:
    return {
        "uid": uid, "vm": uid, "policy": "Gold", "policy_uid": "p", "backup_server": "vbr",
        "created": START + pd.Timedelta("1h"), "ended": START + pd.Timedelta("2h"), "state": "Completed",
        "result": "Success", "rpo": pd.Timedelta("1h"), "as_of": AS_OF, **values,
    }  # fmt: skip


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with names that a terminal would obey, or that few encodings have."""
    folder = tmp_path_factory.mktemp("hostile") / "archive"
    put(Archive(folder), START, [session("a\x1b[2J\u202e"), session("Zürich-数据库")], AS_OF)
    return folder


def run(*words: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 120, **options}
    return subprocess.run([*COMMAND, *map(str, words)], check=False, **given)  # type: ignore[call-overload,no-any-return]


def assert_one_line(text: bytes, beginning: str) -> None:
    assert text.decode().startswith(beginning), text
    assert text.count(b"\n") == 1, text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize(("words", "code"), [(["metrics", "quality"], 1), (["check"], 3)])
def test_a_full_standard_output_is_one_line(words: list[str], code: int, hostile: Path) -> None:
    with open("/dev/full", "wb") as full:  # opened by us, never given to --output
        done = run(*words, "--archive", hostile, stdout=full)
    assert done.returncode == code
    assert_one_line(done.stderr, "cdpanalytics: cannot write to standard output: No space left")


def test_a_closed_standard_output_is_one_line(hostile: Path) -> None:
    done = run("metrics", "quality", "--archive", hostile, preexec_fn=lambda: os.close(1))
    assert done.returncode == 1
    assert_one_line(done.stderr, "cdpanalytics: standard output is closed")


def test_with_all_outputs_closed_the_exit_code_says_it(hostile: Path) -> None:
    def close() -> None:
        os.close(1)
        os.close(2)

    assert run("metrics", "quality", "--archive", hostile, preexec_fn=close).returncode == 1


def test_a_reader_that_ends_early_is_one_line(hostile: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = run("metrics", "rpo", "--archive", hostile, "--format", "json", stdout=write)
    os.close(write)
    assert done.returncode == 1
    assert_one_line(done.stderr, "cdpanalytics: standard output was closed before")


@pytest.mark.parametrize("encoding", ["cp850", "cp1252", "ascii"] if NIGHTLY else ["cp850"])
def test_an_old_encoding_shows_what_it_can_and_escapes_the_rest(
    encoding: str, hostile: Path
) -> None:
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    words = ["--archive", hostile, "--rpo", "9999D"]
    check = run("check", *words, "--max-age", "9999D", env=env)
    assert (check.returncode, check.stderr) == (0, b"")
    assert check.stdout.startswith(b"OK: Gold ")
    table = run("metrics", "rpo", *words, env=env)
    assert table.returncode == 0
    assert "\\u6570\\u636e\\u5e93" in table.stdout.decode(encoding)
    exact = run("metrics", "rpo", *words, "--format", "json", env=env)
    assert "Zürich-数据库" in [row["vm"] for row in json.loads(exact.stdout.decode(encoding))]


def test_control_characters_reach_a_file_but_not_a_terminal(hostile: Path) -> None:
    words = ["metrics", "rpo", "--archive", hostile, "--format", "csv"]
    assert b"a\x1b[2J\xe2\x80\xae" in run(*words).stdout
    leader, follower = pty.openpty()
    env = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = run(*words, stdout=follower, env=env)
    os.close(follower)
    shown = b""
    while part := _read(leader):
        shown += part
    os.close(leader)
    assert done.returncode == 0
    assert b"\x1b" not in shown
    assert b"a\\x1b[2J\\u202e" in shown


def _read(handle: int) -> bytes:
    try:
        return os.read(handle, 4096)
    except OSError:  # how Linux says that no process has the terminal open any more
        return b""


def test_parquet_is_not_written_to_a_terminal(hostile: Path) -> None:
    leader, follower = pty.openpty()
    done = run("metrics", "rpo", "--archive", hostile, "--format", "parquet", stdout=follower)
    os.close(follower)
    os.close(leader)
    assert done.returncode == 1
    assert_one_line(done.stderr, "cdpanalytics: the output is a terminal, the format binary")


def test_output_minus_is_standard_output(hostile: Path) -> None:
    page = run("report", "--archive", hostile, "--output", "-")
    assert page.returncode == 0
    assert page.stdout.startswith(b"<!DOCTYPE html>")
    assert page.stdout.rstrip().endswith(b"</html>")


def _works_with_its_session(server: Simulator) -> bool:
    """Return whether the client has its token: it has asked for something since it logged on."""
    methods = [method for method, *_ in list(server.requests)]
    return "POST" in methods and methods[-1] != "POST"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_logs_off_and_releases_the_lock(
    number: signal.Signals, code: int, fleet: Fleet, folder: Path
) -> None:
    environment = {**os.environ, "CDPANALYTICS_USERNAME": "demo", "CDPANALYTICS_PASSWORD": "demo"}
    words = ["sync", "--archive", str(folder), "--since", "7D"]
    with Simulator(fleet, faults=[Fault.read("silence:lasting")]) as server:
        process = subprocess.Popen(
            [*COMMAND, *words, server.url], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # nohup ignores SIGHUP
        )  # fmt: skip
        while not _works_with_its_session(server):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert server.logged_on() == [], "the session is deleted on the server"
        server.faults.set()
        assert process.returncode == code
        assert err.decode().splitlines()[-1] == f"cdpanalytics: ended by {number.name}"
        with Archive(folder).writing():
            pass  # the lock is free
