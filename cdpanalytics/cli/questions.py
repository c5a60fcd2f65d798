"""The commands that answer a question of an archive: metrics, report and export."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cdpanalytics.cli import options as shared
from cdpanalytics.cli.parser import UsageError
from cdpanalytics.cli.tables import emit, prepare
from cdpanalytics.errors import InputError
from cdpanalytics.metrics.registry import REGISTRY, MetricSpec
from cdpanalytics.presentation import output

if TYPE_CHECKING:
    from cdpanalytics.selection import Selection

_MOST_PERIODS: Final = 1_000_000
"""Periods of ``--freq`` above which a window is refused: nothing reads a table of that many rows."""

_LONGEST_PERIODS: Final = {"h": "1h", "D": "25h", "W": "7D", "MS": "31D"}
_TERMS: Final = {"target": "rpo", "objective": "objective", "exclude": "exclude", "grace": "grace",
                 "retire_after": "retire_after", "tz": "tz", "tags": "tags", "estate": "estate",
                 "tag": "tag"}  # fmt: skip
"""The terms of a Selection, and the options they are given by."""

_OWN: Final = (
    "by", "freq", "at", "within", "least", "merge", "without", "sides", "reading", "horizon"
)  # fmt: skip
"""Options that are arguments of the metric itself."""

_LEAST: Final = {
    "incidents": "VMs that an incident of many has at least; default: %(default)s",
    "offenders": "incidents of its own that a VM has at least; default: %(default)s",
}

TARGETS: Final = "1min,5min,15min,1h"


def add_metrics(commands: Any) -> None:
    """Add ``metrics``, and under it one command for each metric of the registry."""
    command = commands.add_parser(
        "metrics", help="a metric of an archive as a table",
        epilog="Example: cdpanalytics metrics rpo --archive data/archive --by policy --since 30D",
    )  # fmt: skip
    names = command.add_subparsers(title="metrics", metavar="METRIC", dest="metric", required=True)
    for spec in REGISTRY.values():
        _add_metric(names, spec)


def add_incidents(commands: Any) -> None:
    """Add ``incidents``: the metric as a command of its own, for it is the first question."""
    _add_metric(commands, REGISTRY["incidents"])


def _add_metric(names: Any, spec: MetricSpec) -> None:
    command = names.add_parser(spec.command, help=spec.summary, description=spec.summary)
    _add_options(command, spec)


def _add_options(command: Any, spec: MetricSpec) -> None:
    shared.add_archive(command)
    shared.add_window(command)
    if spec.by is not None:
        shared.add_keys(command, None, ",".join(spec.by) or "none")
    if "target" in spec.takes:
        shared.add_target(command)
    if "targets" in spec.own:
        command.add_argument(
            "--rpo", default=TARGETS, metavar="LENGTHS", help="targets; default: %(default)s"
        )
    if "objective" in spec.own:
        shared.add_objective(command)
    if "exclude" in spec.takes:
        shared.add_excluded(command)
    if "retire_after" in spec.takes:
        shared.add_retirement(command)
    if "freq" in spec.takes:
        shared.add_frequency(command)
    if spec.name == "compare":
        shared.add_sides(command)
    if "horizon" in spec.own:
        command.add_argument(
            "--horizon", metavar="T", default="30D",
            help="the size is projected to it: a length or a date; default: %(default)s",
        )  # fmt: skip
    if "within" in spec.own:
        shared.add_clusters(command)
    if "without" in spec.own:
        command.add_argument(
            "--without", type=shared.numbers, metavar="N,...",
            help="also print the adherence without these incidents: their numbers in the table of: incidents",
        )  # fmt: skip
    if spec.name in ("incidents", "offenders"):
        command.add_argument(
            "--least", type=shared.whole_number(1, 10**9), metavar="N",
            default=spec.own["least"],
            help=_LEAST[spec.name],
        )  # fmt: skip
    if "at" in spec.own:
        shared.add_instant(command)
    if "reading" in spec.own:
        command.add_argument(
            "--reading", choices=("size", "volume"),
            help="of the sizes that sessions carry: size of a VM, or volume of a session",
        )  # fmt: skip
    if spec.name == "gaps":
        command.add_argument(
            "--longest", type=shared.whole_number(1, 10**9), metavar="N", help="the N longest only"
        )
    shared.add_output(command)
    command.add_argument(
        "--provenance", action="store_true",
        help="with json: also the servers, files and SHA-256, the estate file, and the question",
    )  # fmt: skip
    command.set_defaults(run=_run_metrics, spec=spec)


def _run_metrics(options: argparse.Namespace) -> int:
    prepare(options)
    spec: MetricSpec = options.spec
    if spec.looks_back and not (options.period or options.since or options.sides):
        raise UsageError(
            "one of the arguments --period --since --sides is required; "
            f"see {options.command} --help"
        )
    selection = selection_of(options)
    freq = getattr(options, "freq", None)
    if freq is not None:
        _check_periods(selection, freq)
    given = {name: getattr(options, name, None) for name in _OWN}
    if "targets" in spec.own:
        given["targets"] = options.rpo.split(",")
    method = getattr(selection, spec.name)
    table = method(**{name: value for name, value in given.items() if value is not None})
    tell(selection)
    if getattr(options, "longest", None) is not None:
        ordered = table.sort_values("exposure", ascending=False, kind="stable")
        table = ordered.head(options.longest)
    provenance = _provenance(selection) if options.provenance else None
    return emit(table, options, selection.tz, provenance)


def _provenance(selection: Selection) -> dict[str, Any]:
    """Return where an answer comes from, and the question as it was understood."""
    asked = {
        "start": selection.start,
        "end": selection.stop,
        "zone": selection.tz,
        "filters": selection.filters(),
    }
    return {**selection.provenance(), "question": asked}


def selection_of(options: argparse.Namespace) -> Selection:
    """Return the question that the options ask of their archive.

    Raises
    ------
    InputError
        When a relative period has other dates by this machine's clock than by the newest fetch.
    """
    from cdpanalytics import timeparse
    from cdpanalytics.archive import Archive

    if options.tz is not None:
        options.tz = timeparse.zone(options.tz, "--tz")
    has_targets = "targets" in getattr(getattr(options, "spec", None), "own", ())
    terms = {
        name: getattr(options, option, None)
        for name, option in _TERMS.items()
        if not (has_targets and name == "target")
    }
    selection = Archive(options.archive).select(
        options.period, since=options.since, until=options.until, policy=options.policy,
        vm=options.vm, server=options.server,
        **{name: value for name, value in terms.items() if value is not None},
    )  # fmt: skip
    _check_clock(selection)
    return selection


def _check_clock(selection: Selection) -> None:
    """Refuse "last month" where the newest fetch is of an earlier month than this machine's clock."""
    import pandas as pd

    dated = selection.dated_period(clock=pd.Timestamp.now("UTC"))
    if dated is not None and dated.conflict is not None:
        raise InputError(dated.conflict)


def tell(selection: Selection) -> None:
    """Write to standard error the dates of a period, and what the figures do not contain or use."""
    findings, dated, holes = selection.findings(), selection.dated_period(), len(selection.holes)
    if dated is not None:
        provisional = dated.provisional(selection.as_of)
        output.print_error(
            f"period: {dated.label}{'; provisional, for it is not over yet' if provisional else ''}"
        )
    for finding in [*selection.missing_start(), *findings]:
        output.print_error(finding)
    if holes:
        output.print_error(
            f"{holes:,} {'hole' if holes == 1 else 'holes'} of the archive "
            f"{'is' if holes == 1 else 'are'} not observed time; see: cdpanalytics verify"
        )


def _check_periods(selection: Selection, freq: str) -> None:
    """Refuse a window of more periods than a table can be read with."""
    import pandas as pd

    start = selection.window[0]
    end = selection.stop if start is not None else None
    if start is None or end is None or end <= start:
        return
    seconds = end.timestamp() - start.timestamp()  # a Timedelta ends at 292 years
    periods = int(seconds / pd.Timedelta(_LONGEST_PERIODS[freq]).total_seconds())
    if periods > _MOST_PERIODS:
        raise InputError(
            f"--freq {freq} from {start:%Y-%m-%d} to {end:%Y-%m-%d} is about {periods:,} "
            f"periods; use a later --since, for at most {_MOST_PERIODS:,}"
        )


def add_export(commands: Any) -> None:
    """Add ``export``."""
    command = commands.add_parser(
        "export", help="an Excel workbook: summary, policies, VMs, gaps, sizes, exclusions, quality",
        epilog='Example: cdpanalytics export --archive data/archive --period "last month" '
        "--output month.xlsx",
    )  # fmt: skip
    shared.add_archive(command)
    command.add_argument(
        "--output", required=True, metavar="FILE.xlsx", type=shared.destination,
        help="a file, pipe or device; - is standard output, unless it is a terminal",
    )  # fmt: skip
    shared.add_question(command)
    shared.add_group(command)
    command.set_defaults(run=_run_export)


def _run_export(options: argparse.Namespace) -> int:
    selection = selection_of(options)
    selection.to_excel(options.output, by=options.by)
    return _told(selection, options)


def add_report(commands: Any) -> None:
    """Add ``report``."""
    command = commands.add_parser(
        "report", help="an HTML report that opens offline",
        epilog="Example: cdpanalytics report --archive data/archive --output october.html "
        "--since 2026-10-01 --until 2026-11-01",
    )  # fmt: skip
    shared.add_archive(command)
    command.add_argument(
        "--output", required=True, metavar="FILE.html", type=shared.destination,
        help="a file, pipe or device; - is standard output",
    )  # fmt: skip
    shared.add_question(command)
    shared.add_group(command)
    shared.add_sides(command)
    command.add_argument("--title", metavar="TEXT")
    command.add_argument(
        "--summary", action="store_true", help="one page without scripts, for the body of a mail"
    )
    command.add_argument(
        "--order", choices=("breached", "incident"), default="breached",
        help="VMs in heat map and timeline: most breached time first (default), or by incident",
    )  # fmt: skip
    command.add_argument(
        "--prepared-for", action="append", default=[], metavar="NAME",
        help="who approves it, with room for date and signature; may be given again",
    )  # fmt: skip
    command.add_argument(
        "--json", metavar="FILE.json", type=shared.destination,
        help="also write what the report says as JSON",
    )  # fmt: skip
    command.set_defaults(run=_run_report)


def _run_report(options: argparse.Namespace) -> int:
    selection = selection_of(options)
    selection.report(
        options.output, title=options.title, summary=options.summary, order=options.order,
        sides=options.sides, by=options.by, prepared_for=options.prepared_for,
        json=options.json,
    )  # fmt: skip
    return _told(selection, options)


def _told(selection: Selection, options: argparse.Namespace) -> int:
    """Say what is odd about the question, and where its file is; return 0."""
    tell(selection)
    if not output.is_stdout(options.output):
        output.print_text(f"{Path(options.output)}\n")
    return 0


def add_status(commands: Any) -> None:
    """Add ``status``."""
    command = commands.add_parser(
        "status", help="the state of each VM now, or at an instant, worst first",
        description="The state of each VM, worst first, as it was known at the instant.",
        epilog="Example: cdpanalytics status --archive data/archive --at 2026-10-14T14:05",
    )  # fmt: skip
    _add_options(command, REGISTRY["status"])
