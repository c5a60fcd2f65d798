"""The commands that look after an archive: verify, import, and what doctor says of it."""

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
    damaged = bool(findings["kind"].eq("damage").any())
    if options.set_aside:
        _set_aside(archive)
    elif damaged:
        _print(
            "verify --set-aside moves unreadable files away; the next sync fetches their days again"
        )
    if damaged:
        return 1
    ledger, holes = archive.ledger(), archive.holes().fillna({"backup_server": ""})
    for source, server, start, end in holes.itertuples(index=False):
        name = f"{source} ({server})" if server else source
        hours = f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
        _print(f"hole: {name}: no sessions were fetched for {hours}")
    count = f"{len(holes):,} {'hole' if len(holes) == 1 else 'holes'}"
    _print(f"ok: {len(ledger):,} days, {ledger['rows'].sum():,} sessions, {count}")
    return 0


def add_import(commands: Any) -> None:
    """Add ``import``."""
    command = commands.add_parser(
        "import", help="add saved pages of the API, or tables of sessions, to an archive",
        description="Pages of /api/query?type=CdpReplicaTaskSession&format=Entities (also "
        "CdpReplicaSession, CdpPolicy), as XML or JSON; or tables: CSV, workbook, Parquet.",
        epilog="Example: cdpanalytics import page-*.json --archive data/archive",
    )  # fmt: skip
    command.add_argument("files", nargs="+", metavar="FILE")
    shared.add_archive(command)
    command.add_argument(
        "--source", metavar="NAME", default="import",
        help="the archive's name for where the files come from; default: %(default)s",
    )  # fmt: skip
    command.add_argument(
        "--as-of", metavar="T", help="when the files were saved; default: the newest time in them"
    )
    command.add_argument("--tz", metavar="ZONE", help="zone of times in tables that have no offset")
    command.add_argument(
        "--column",
        action=shared.PairAction,
        metavar="NAME=HEAD",
        help="vm=Maschine; may be repeated",
    )
    command.add_argument(
        "--result",
        action=shared.PairAction,
        metavar="WORD=RESULT",
        help="Fehler=Failed; may be repeated",
    )
    command.add_argument("--unit", metavar="UNIT", help="of sizes, e.g. GB; default: bytes")
    order = command.add_mutually_exclusive_group()
    order.add_argument(
        "--day-first",
        dest="day_first",
        action="store_const",
        const=True,
        help="01.11. is 1 November",
    )
    order.add_argument(
        "--month-first",
        dest="day_first",
        action="store_const",
        const=False,
        help="it is 11 January",
    )
    command.set_defaults(run=_run_import)


def _run_import(options: argparse.Namespace) -> int:
    import pandas as pd

    from cdpanalytics.archive import Archive
    from cdpanalytics.estate.sessions import Reading
    from cdpanalytics.synchronize.importing import import_files
    from cdpanalytics.timeparse import instant

    reading = Reading(
        options.column or {}, options.result or {},
        {} if options.unit is None else {"total_size": options.unit},
        options.day_first, tz=options.tz,
    )  # fmt: skip
    now = pd.Timestamp.now("UTC")
    as_of = None if options.as_of is None else instant(options.as_of, now, options.tz or "UTC")
    archive = Archive(options.archive)
    result = import_files(
        archive, options.files, source=options.source, reading=reading, as_of=as_of
    )
    output.print_error(f"{archive.path}: {result}")
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
