"""Outputs go where they were sent: files keep what they are, pipes and devices are written to."""

from __future__ import annotations

import os
import pty
import stat
import threading
from pathlib import Path

import pytest

from cdpanalytics.errors import InputError
from cdpanalytics.presentation import output

BODY = b"vm,adherence\na,1.0\n"


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_new_file_has_the_mode_that_the_umask_gives(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        output.write(tmp_path / "new.csv", BODY)
    finally:
        os.umask(before)
    assert (tmp_path / "new.csv").read_bytes() == BODY
    assert stat.S_IMODE((tmp_path / "new.csv").stat().st_mode) == 0o640
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o755])
def test_a_file_is_replaced_and_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "report.html"
    path.write_text("an old and longer text, " * 9)
    path.chmod(mode)
    inode = path.stat().st_ino
    output.write(path, BODY)
    assert path.read_bytes() == BODY
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.stat().st_ino != inode, "replaced by a renamed file, so never seen half written"
    assert leftovers(tmp_path) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_a_file_keeps_its_owner_and_group(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    os.chown(path, 65534, 65533)
    path.chmod(0o660)
    output.write(path, BODY)
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (65534, 65533, 0o660)


def test_a_file_whose_owner_cannot_be_kept_is_written_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a user who may write another user's file, but may not give files away."""
    path = tmp_path / "report.html"
    path.write_text("an old and longer text, " * 9)
    inode = path.stat().st_ino

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "fchmod", refuse)
    output.write(path, BODY)
    assert path.read_bytes() == BODY
    assert path.stat().st_ino == inode
    assert leftovers(tmp_path) == []


def test_symbolic_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    target = tmp_path / "web" / "october.html"
    target.write_text("old")
    link = tmp_path / "latest.html"
    link.symlink_to("web/october.html")
    output.write(link, BODY)
    assert link.is_symlink()
    assert target.read_bytes() == BODY
    dangling = tmp_path / "next.html"
    dangling.symlink_to("web/november.html")
    output.write(dangling, BODY)
    assert dangling.is_symlink()
    assert (tmp_path / "web" / "november.html").read_bytes() == BODY


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    received = []
    reader = threading.Thread(target=lambda: received.append(fifo.read_bytes()))
    reader.start()
    output.write(fifo, BODY)
    reader.join(30)
    assert received == [BODY]
    assert stat.S_ISFIFO(fifo.lstat().st_mode)


def test_a_device_is_written_to_and_a_terminal_gets_no_control_characters() -> None:
    """A pseudo-terminal is a character device, as /dev/null is, and harmless to test with."""
    leader, follower = pty.openpty()
    try:
        name = os.ttyname(follower)
        before = os.stat(name)
        output.write_text(name, "a\x1b[31mred\u202e\n")
        assert os.read(leader, 100) == b"a\\x1b[31mred\\u202e\r\n"
        after = os.stat(name)
        assert stat.S_ISCHR(after.st_mode)
        assert (after.st_ino, after.st_rdev) == (before.st_ino, before.st_rdev)
        with pytest.raises(InputError, match="terminal"):
            output.check(name, binary=True)
    finally:
        os.close(leader)
        os.close(follower)


def test_a_file_gets_control_characters_as_they_are(tmp_path: Path) -> None:
    output.write_text(tmp_path / "a.csv", "a\x1b[31m\u202e\n")
    assert (tmp_path / "a.csv").read_text() == "a\x1b[31m\u202e\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "empty"),
        ("  ", "empty"),
        (".", "is a directory"),
        ("no/such/x.html", "is not a directory; make it first"),
        ("x" * 300, "cannot write"),
        ("a\0b", "cannot write"),
        ("loop", "cannot write"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_work(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match=message):
        output.check(name)
    with pytest.raises(InputError, match=message):
        output.write(name, BODY)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot write .*No space left"):
        output.write(path, BODY)
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "é 日 😀"),
        ("cp1252", "é \\u65e5 \\ud83d\\ude00"),
        ("cp850", "é \\u65e5 \\ud83d\\ude00"),
        ("ascii", "\\u00e9 \\u65e5 \\ud83d\\ude00"),
    ],
)
def test_what_an_encoding_lacks_is_escaped(encoding: str, shown: str) -> None:
    assert output.encodable("é 日 😀", encoding) == shown
    shown.encode(encoding)
