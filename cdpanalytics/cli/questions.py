"""The commands that answer a question of an archive: metrics, report and check."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cdpanalytics.cli import options as shared
from cdpanalytics.cli.tables import emit, prepare
from cdpanalytics.errors import InputError
from cdpanalytics.presentation import output

if TYPE_CHECKING:
    import pandas as pd

    from cdpanalytics.archive import Archive

MET, MISSED, UNKNOWN = 0, 2, 3
"""What `check` exits with."""

MOST_PERIODS: Final = 1_000_000
"""Periods of ``--freq`` above which a window is refused: no table of that many rows is read."""

_LONGEST_PERIODS: Final = {"h": "1h", "D": "25h", "W": "7D", "MS": "31D"}


@dataclass(frozen=True)
class MetricCommand:
    """A metric on the command line.

    Attributes
    ----------
    function : str
        Its name in `cdpanalytics.metrics`.
    summary : str
    options : tuple of str
        The options it takes besides the window: arguments of the function, and "longest".
    holes : bool
        Whether holes of the archive are left out of observed time.
    journal : bool
        Whether it reads restorable intervals instead of sessions.
    """

    function: str
    summary: str
    options: tuple[str, ...] = ()
    holes: bool = True
    journal: bool = False


_RPO: Final = ("by", "target", "exclude", "retire_after")
_SIZES: Final = ("by", "freq", "retire_after")

METRICS: Final = {
    "rpo": MetricCommand("rpo_adherence", "share of the observed time within the RPO",
                         (*_RPO, "freq")),
    "gaps": MetricCommand("gaps", "each time a VM was not protected, and why",
                          (*_RPO[1:], "longest")),
    "durations": MetricCommand("durations", "how long sessions ran, and how regularly they start",
                               ("by",), holes=False),
    "sizes": MetricCommand("sizes", "size of the protected VMs, day by day", _SIZES),
    "size-trend": MetricCommand("size_trend", "growth of the sizes", _SIZES),
    "size-anomalies": MetricCommand("size_anomalies", "days with an unusual size", _SIZES),
    "journal": MetricCommand("journal_adherence", "the RPO achieved (after sync --journal)",
                             ("by", "target"), holes=False, journal=True),
    "what-if": MetricCommand("what_if", "adherence under other targets (--rpo 1min,1h)",
                             ("by", "targets", "exclude", "retire_after")),
    "objectives": MetricCommand("objectives", "whether objectives were met, and the budget left",
                                (*_RPO, "freq", "objective")),
    "worst": MetricCommand("worst", "VMs with most of the breached time", _RPO),
    "compare": MetricCommand("compare", "changes since the period before (--since)", _RPO),
    "quality": MetricCommand("quality", "findings about the records themselves", holes=False),
}  # fmt: skip
"""The metrics by their names on the command line."""

TARGETS: Final = "1min,5min,15min,1h"


def add_metrics(commands: Any) -> None:
    """Add ``metrics``, and under it one command for each metric."""
    command = commands.add_parser(
        "metrics", help="a metric of an archive as a table",
        epilog="Example: cdpanalytics metrics rpo --archive data/archive --by policy --since 30D",
    )  # fmt: skip
    names = command.add_subparsers(title="metrics", metavar="METRIC", dest="metric", required=True)
    for name, metric in METRICS.items():
        _add_metric(names, name, metric)


def _add_metric(names: Any, name: str, metric: MetricCommand) -> None:
    command = names.add_parser(name, help=metric.summary, description=metric.summary)
    shared.add_archive(command)
    shared.add_window(command, since_required=metric.function == "compare")
    adders: dict[str, Callable[[], object]] = {
        "by": lambda: shared.add_keys(command, None, "policy,vm"),
        "target": lambda: shared.add_target(command),
        "targets": lambda: command.add_argument(
            "--rpo", default=TARGETS, metavar="LENGTHS", help="targets; default: %(default)s"
        ),
        "objective": lambda: shared.add_objective(command),
        "exclude": lambda: shared.add_excluded(command),
        "retire_after": lambda: shared.add_retirement(command),
        "freq": lambda: shared.add_frequency(command),
        "longest": lambda: command.add_argument(
            "--longest", type=shared.whole_number(1, 10**9), metavar="N", help="the N longest only"
        ),
    }
    for option in metric.options:
        adders[option]()
    shared.add_output(command)
    command.set_defaults(run=_run_metrics)


def _run_metrics(options: argparse.Namespace) -> int:
    from cdpanalytics import metrics
    from cdpanalytics.archive import Archive

    prepare(options)
    metric = METRICS[options.metric]
    archive = Archive(options.archive)
    arguments = _arguments(options, metric)
    if metric.function == "compare":
        arguments["before"] = _period_before(archive, options)
    rows, context = _read(archive, options, metric, arguments.get("before", (options.since,))[0])
    table = getattr(metrics, metric.function)(rows, **context, **arguments)
    if getattr(options, "longest", None) is not None:
        ordered = table.sort_values("exposure", ascending=False, kind="stable")
        table = ordered.head(options.longest)
    return emit(table, options)


def _arguments(options: argparse.Namespace, metric: MetricCommand) -> dict[str, Any]:
    """Return the metric's arguments that were given as options."""
    named = {
        "by": "by", "target": "rpo", "targets": "rpo", "objective": "objective",
        "exclude": "exclude", "retire_after": "retire_after", "freq": "freq",
    }  # fmt: skip
    given = {name: getattr(options, named[name]) for name in metric.options if name in named}
    if "targets" in given:
        given["targets"] = given["targets"].split(",")
    if metric.holes:  # what leaves out holes also has days or schedules, and so a zone
        given["tz"] = options.tz
    return {name: value for name, value in given.items() if value is not None}


def _period_before(
    archive: Archive, options: argparse.Namespace
) -> tuple[pd.Timestamp, pd.Timestamp]:
    from cdpanalytics import analysis

    since, until = archive.window(options.since, options.until)
    if since is None:
        raise InputError(
            "compare requires --since T: it compares the period from T with the period of "
            "equal length before T"
        )
    return analysis.before(archive, since, until)


def _read(
    archive: Archive, options: argparse.Namespace, metric: MetricCommand, since: Any
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the rows that a metric needs, and the context it takes: window, settings, holes."""
    names = {"policy": options.policy, "vm": options.vm}
    policies = archive.policies(naming_vms=not (options.policy or options.vm))
    if metric.journal:
        return archive.intervals(since, options.until, **names), {"policies": policies}
    start, stop = archive.window(options.since, options.until)
    _check_periods(archive, start, stop, getattr(options, "freq", None))
    rows = archive.sessions(since, options.until, **names, history=True)
    context = {"since": start, "until": stop, "policies": policies}
    if metric.holes:
        context["unobserved"] = _holes(archive)
    return rows, context


def _holes(archive: Archive) -> pd.DataFrame | None:
    holes = archive.holes()
    if holes.empty:
        return None
    output.print_error(
        f"{len(holes):,} holes of the archive are not observed time; see: cdpanalytics verify"
    )
    return holes


def _check_periods(
    archive: Archive, start: pd.Timestamp | None, stop: pd.Timestamp | None, freq: str | None
) -> None:
    """Refuse a window of more periods than a table can be read with."""
    import pandas as pd

    if freq is None or start is None:
        return
    end = stop if stop is not None else archive.ledger()["as_of"].max()
    if pd.isna(end) or end <= start:
        return
    seconds = end.timestamp() - start.timestamp()  # a Timedelta ends at 292 years
    periods = int(seconds / pd.Timedelta(_LONGEST_PERIODS[freq]).total_seconds())
    if periods > MOST_PERIODS:
        raise InputError(
            f"--freq {freq} from {start:%Y-%m-%d} to {end:%Y-%m-%d} is more than {periods:,} "
            f"periods; use a later --since, or at most {MOST_PERIODS:,} periods"
        )


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
    shared.add_window(command)
    shared.add_target(command)
    shared.add_objective(command)
    command.add_argument("--title", metavar="TEXT")
    command.set_defaults(run=_run_report)


def _run_report(options: argparse.Namespace) -> int:
    from cdpanalytics.archive import Archive
    from cdpanalytics.reports import report

    path = report(
        Archive(options.archive), options.output, since=options.since, until=options.until,
        policy=options.policy, vm=options.vm, rpo=options.rpo, objective=options.objective,
        tz=options.tz, title=options.title,
    )  # fmt: skip
    if not output.is_stdout(options.output):
        output.print_text(f"{path}\n")
    return 0


def add_check(commands: Any) -> None:
    """Add ``check``."""
    command = commands.add_parser(
        "check", help="whether the objective was met: 0 met, 2 missed, 3 unknown",
        epilog="Example: cdpanalytics check --archive data/archive --objective 99.9 --since 1D",
    )  # fmt: skip
    shared.add_archive(command)
    shared.add_window(command)
    shared.add_target(command)
    shared.add_excluded(command)
    shared.add_retirement(command)
    shared.add_keys(command, ["policy"], "policy")
    shared.add_objective(command)
    command.set_defaults(run=_run_check)


def _run_check(options: argparse.Namespace) -> int:
    """Print one line per group, and exit as the worst of them."""
    from cdpanalytics import metrics
    from cdpanalytics.archive import Archive
    from cdpanalytics.presentation import formatting

    metric = MetricCommand("objectives", "", (*_RPO, "objective"))
    rows, context = _read(Archive(options.archive), options, metric, options.since)
    table = metrics.objectives(rows, **context, **_arguments(options, metric))
    lines = formatting.verdicts(table) or ["UNKNOWN: no session matches; widen the selection"]
    output.print_table("".join(f"{output.one_line(line)}\n" for line in lines))
    if (table["passed"] == False).any():  # noqa: E712
        return MISSED
    return UNKNOWN if table.empty or table["passed"].isna().any() else MET
