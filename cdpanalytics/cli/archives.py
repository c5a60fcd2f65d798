"""The commands that look after an archive, and that take files into one."""

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


def add_import(commands: Any) -> None:
    """Add ``import``."""
    command = commands.add_parser(
        "import", help="take saved API pages or exported tables into an archive",
        epilog="Example: cdpanalytics import page-*.json export.csv --archive data/archive",
    )  # fmt: skip
    command.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="pages as JSON or XML; tables as CSV, xlsx, Parquet",
    )
    shared.add_archive(command)
    command.add_argument(
        "--name", default="files", metavar="NAME", help="of the source; default: %(default)s"
    )
    command.add_argument(
        "--as-of", metavar="T", help="when the files were saved; default: the newest time in them"
    )
    command.add_argument(
        "--tz", metavar="ZONE", help="of times without an offset; without it they are refused"
    )
    for option, name, example in (
        ("--column", "columns", "created=Beginn"), ("--result", "results", "Fehler=Failed"),
        ("--unit", "units", "total_size=GB"),
    ):  # fmt: skip
        command.add_argument(
            option, dest=name, action=shared.PairAction, metavar="NAME=VALUE",
            help=f"of tables, e.g. {example}; may be repeated",
        )  # fmt: skip
    command.add_argument(
        "--month-first", dest="day_first", action="store_false", default=None,
        help="01/11/2026 is 11 January",
    )  # fmt: skip
    command.add_argument(
        "--day-first", dest="day_first", action="store_true", help="01/11/2026 is 1 November"
    )
    command.set_defaults(run=_run_import)


def _run_import(options: argparse.Namespace) -> int:
    import pandas as pd

    from cdpanalytics import timeparse
    from cdpanalytics.archive import Archive
    from cdpanalytics.foreign import Translation
    from cdpanalytics.importing import import_files

    as_of = None
    if options.as_of is not None:
        now = pd.Timestamp.now("UTC")
        as_of = timeparse.instant(options.as_of, now, options.tz or "UTC")
    translation = Translation(
        options.columns or {}, options.tz, options.results or {}, options.units or {},
        options.day_first,
    )  # fmt: skip
    archive = Archive(options.archive)
    result = import_files(
        archive, options.files, name=options.name, as_of=as_of, translation=translation
    )
    output.print_error(f"{archive.path}: {result}")
    for note in result.notes:
        output.print_error(note)
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
