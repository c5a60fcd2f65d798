"""The command that looks after an archive."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cdpanalytics.cli import options as shared
from cdpanalytics.presentation import output

if TYPE_CHECKING:
    from cdpanalytics.archive import Archive


def add_verify(commands: Any) -> None:
    """Add ``verify``."""
    command = commands.add_parser(
        "verify", help="check that every file is readable and every row valid",
        epilog="Example: cdpanalytics verify --archive data/archive",
    )  # fmt: skip
    shared.add_archive(command)
    command.add_argument(
        "--set-aside", action="store_true",
        help="move damaged files to DIR/damaged, so that the next sync fetches their days again",
    )  # fmt: skip
    command.set_defaults(run=_run_verify)


def _run_verify(options: argparse.Namespace) -> int:
    from cdpanalytics.archive import Archive

    archive = Archive(options.archive)
    findings = archive.verify()
    for path, finding in zip(findings["path"], findings["finding"], strict=True):
        _print(f"{path}: {finding}")
    if options.set_aside:
        _set_aside(archive)
    if findings["kind"].eq("damage").any():
        return 1
    ledger, holes = archive.ledger(), archive.holes().fillna({"backup_server": ""})
    for source, server, start, end in holes.itertuples(index=False):
        name = f"{source} ({server})" if server else source
        _print(f"hole: {name} is not known from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC")
    _print(f"ok: {len(ledger):,} days, {ledger['rows'].sum():,} sessions, {len(holes):,} holes")
    return 0


def _set_aside(archive: Archive) -> None:
    with archive.writing():
        for path in archive.set_aside(thorough=True):
            _print(
                f"{archive.path}/{path} was moved to {archive.path}/damaged; "
                "sync fetches what the server has"
            )


def _print(line: str) -> None:
    output.print_table(output.one_line(line) + "\n")
