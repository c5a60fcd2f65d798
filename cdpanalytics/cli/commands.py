# PYTHON_ARGCOMPLETE_OK
"""Arguments in, exit code out: the command line, without logic of its own."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from cdpanalytics.errors import CdpError, InputError

if TYPE_CHECKING:
    import pandas as pd

    from cdpanalytics.archive import Archive
    from cdpanalytics.selection import Selection

OK, ERROR = 0, 1
MISSED, NOT_KNOWN = 2, 3
"""What `check` exits with besides, as monitoring systems expect it."""

METRICS = {
    "rpo": ("rpo_adherence", "how much of the observed time kept its RPO"),
    "gaps": ("gaps", "each stretch in which a VM was not replicated, and why"),
    "durations": ("durations", "how long sessions lasted, and whether they keep their cadence"),
    "sizes": ("sizes", "the size of the protected VMs, day by day"),
    "size-trend": ("size_trend", "where sizes head"),
    "size-anomalies": ("size_anomalies", "days whose size is far off those around"),
    "journal": ("journal_adherence", "the RPO really achieved (after sync --journal)"),
    "what-if": ("what_if", "adherence under other targets (--rpo 1min,1h)"),
    "objectives": ("objectives", "was the promise kept, and what is left of its budget"),
    "worst": ("worst", "who explains most of the breached time"),
    "quality": ("quality", "what is odd about the sessions themselves"),
    "compare": ("compare", "what became better and worse since the period before (--since)"),
}
"""The metrics by the names they have here: which function, and what it tells."""

TARGETS = "1min,5min,15min,1h"
FORMATS = ("table", "csv", "json", "parquet")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 an error told in one line.

    Wrong usage exits with 2, as argparse does.
    """
    read = parser()
    if "_ARGCOMPLETE" in os.environ:  # set by the shell, when TAB is pressed
        with suppress(ImportError):
            import argcomplete

            argcomplete.autocomplete(read)
    options = read.parse_args(arguments)
    if options.run is None:
        read.print_help()
        return OK
    try:
        return int(options.run(options))
    except CdpError as error:
        print(f"cdpanalytics: {_one_line(str(error))}", file=sys.stderr)
        return ERROR
    except BrokenPipeError:
        sys.stderr.close()
        return ERROR
    except KeyboardInterrupt:
        print("cdpanalytics: interrupted", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    root = argparse.ArgumentParser(
        prog="cdpanalytics",
        description="Were we protected? Veeam CDP session records as answers.",
        epilog="Start with: cdpanalytics demo. With a server of your own: cdpanalytics doctor URL, "
        "then cdpanalytics sync URL --archive DIR, then report, metrics and check.",
    )
    root.set_defaults(run=None)
    commands = root.add_subparsers(title="commands", metavar="COMMAND")
    _demo(commands)
    _doctor(commands)
    _sync(commands)
    _query(commands)
    _metrics(commands)
    _report(commands)
    _check(commands)
    _verify(commands)
    _simulate(commands)
    _login(commands)
    return root


# -- commands: each its arguments, then what it does --------------------------------


def _demo(commands: Any) -> None:
    command = commands.add_parser(
        "demo", help="simulated server, sync, metrics, report",
        epilog="Example: cdpanalytics demo --directory demo",
    )  # fmt: skip
    command.add_argument("--directory", default="demo", metavar="DIR", help="default: %(default)s")
    _estate(command)
    command.set_defaults(run=_run_demo)


def _run_demo(options: argparse.Namespace) -> int:
    from cdpanalytics.demo import demo

    done = demo(options.directory, vms=options.vms, days=options.days, seed=options.seed)
    print(f"Synced: {done.synced}", file=sys.stderr)
    print("The three worst VMs:")
    columns = [
        "backup_server",
        "policy",
        "vm",
        "rpo",
        "observed",
        "breached",
        "worst_gap",
        "adherence",
    ]
    _print_table(done.worst[columns])
    print(f"Report: {done.report.resolve()}")
    return OK


def _doctor(commands: Any) -> None:
    command = commands.add_parser(
        "doctor", help="can a server be used: reach, TLS, log-on, version, clock, memory",
        epilog="Example: cdpanalytics doctor https://em.tech.local:9398 --user 'TECH\\analyst'",
    )  # fmt: skip
    _server(command)
    command.set_defaults(run=_run_doctor)


def _run_doctor(options: argparse.Namespace) -> int:
    from cdpanalytics.server.diagnostics import examine

    failed = False
    with _manager(options, cache=False) as em:
        for finding in examine(em):
            print(_one_line(str(finding)), flush=True)
            failed |= finding.verdict == "failed"
    return ERROR if failed else OK


def _sync(commands: Any) -> None:
    command = commands.add_parser(
        "sync", help="bring an archive up to what the server knows",
        epilog="Example: cdpanalytics sync https://em.tech.local:9398 --archive data/archive",
    )  # fmt: skip
    _server(command)
    _archive(command)
    command.add_argument("--since", metavar="T", help="first day to have: 2026-10-01 or 90D")
    command.add_argument("--full", action="store_true", help="fetch every day again")
    command.add_argument(
        "--quick", action="store_true", help="do not compare settled days with the server"
    )
    command.add_argument(
        "--allow-clock-difference",
        action="store_true",
        default=None,
        help="go on although the server's clock differs from this machine's by more than an hour",
    )
    command.add_argument(
        "--journal", action="store_true", help="also each VM's restorable intervals"
    )
    command.set_defaults(run=_run_sync)


def _run_sync(options: argparse.Namespace) -> int:
    from cdpanalytics.archive import Archive
    from cdpanalytics.synchronize import sync

    archive = Archive(options.archive)
    with _manager(options, cache=False) as em:
        done = sync(
            em, archive, options.since, full=options.full, quick=options.quick, journal=options.journal,
            allow_clock_difference=options.allow_clock_difference, progress=sys.stderr.isatty(),
        )  # fmt: skip
    print(f"{archive.path}: {done}", file=sys.stderr)
    return OK


def _query(commands: Any) -> None:
    command = commands.add_parser(
        "query", help="the API's own query, all pages",
        epilog="""Example: cdpanalytics query URL --filter 'VmDisplayName=="db-01";State==InProgress'""",
    )  # fmt: skip
    _server(command)
    command.add_argument("--filter", metavar="TEXT", help="as the vendor's manual writes it")
    command.add_argument(
        "--sort", metavar="FIELD", default="CreationTimeUTC", help="default: %(default)s"
    )
    command.add_argument("--descending", action="store_true")
    command.add_argument("--references", action="store_true", help="names and identifiers only")
    _output(command)
    command.set_defaults(run=_run_query)


def _run_query(options: argparse.Namespace) -> int:
    with _manager(options, cache=False) as em:
        found = em.query(
            options.filter,
            sort=options.sort,
            descending=options.descending,
            references=options.references,
        )
    return _emit(found, options)


def _metrics(commands: Any) -> None:
    command = commands.add_parser(
        "metrics", help="a metric of an archive as a table",
        epilog="Example: cdpanalytics metrics rpo --archive data/archive --by policy --since 30D",
        description="\n".join(f"{name:16}{told}" for name, (_, told) in METRICS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.add_argument("metric", choices=METRICS, metavar="METRIC", help="one of the above")
    _archive(command)
    _selection(command)
    _left_out(command)
    command.add_argument(
        "--by",
        metavar="KEYS",
        type=_keys,
        help="policy,vm,backup_server or none; default: policy,vm",
    )
    command.add_argument("--freq", choices=("h", "D", "W", "MS"), help="cut into periods")
    command.add_argument(
        "--objective", type=_percentage, metavar="PERCENT", help="objectives: default 99.9"
    )
    command.add_argument("--longest", type=_count, metavar="N", help="gaps: the N longest")
    _output(command)
    command.set_defaults(run=_run_metrics)


def _run_metrics(options: argparse.Namespace) -> int:
    from cdpanalytics.archive import Archive

    selection = _asked(Archive(options.archive), options)
    table = _metric(selection, options)
    if len(selection.holes):
        print(f"{len(selection.holes):,} holes of the archive are not observed time; see: cdpanalytics verify",
              file=sys.stderr)  # fmt: skip
    if options.longest is not None:
        table = table.sort_values("exposure", ascending=False, kind="stable").head(options.longest)
    return _emit(table, options)


_OPTIONS = {
    "rpo": ("target", "targets"), "by": ("by",), "freq": ("freq",), "objective": ("objective",),
    "longest": ("longest",), "exclude": ("exclude",), "retire_after": ("retire_after",),
}  # fmt: skip
"""The arguments of metrics that an option stands for."""


def _metric(selection: Selection, options: argparse.Namespace) -> pd.DataFrame:
    """Return the metric that the options name, refusing options it does not take."""
    from cdpanalytics.metrics.registry import REGISTRY

    spec = next(spec for spec in REGISTRY.values() if spec.command == options.metric)
    takes = spec.takes | spec.own.keys() | ({"by"} if spec.by is not None else set())
    takes |= {"longest"} if options.metric == "gaps" else set()
    for name, arguments in _OPTIONS.items():
        if getattr(options, name) is not None and not takes & set(arguments):
            raise InputError(f"{options.metric} takes no --{name.replace('_', '-')}; leave it out")
    given = {name: getattr(options, name) for name in ("by", "freq")
             if getattr(options, name) is not None}  # fmt: skip
    method = getattr(selection, spec.name)
    if "targets" in spec.own:
        return method((options.rpo or TARGETS).split(","), **given)
    return method(**given)


def _asked(archive: Archive, options: argparse.Namespace) -> Selection:
    """Return the question that the command line asks of an archive."""
    terms = {"target": None if getattr(options, "metric", "") == "what-if" else options.rpo,
             "objective": getattr(options, "objective", None), "exclude": options.exclude,
             "retire_after": options.retire_after}  # fmt: skip
    return archive.select(
        options.since, options.until, policy=options.policy, vm=options.vm, tz=options.tz,
        **{name: value for name, value in terms.items() if value is not None},
    )  # fmt: skip


def _report(commands: Any) -> None:
    command = commands.add_parser(
        "report", help="an HTML report that opens offline",
        epilog="Example: cdpanalytics report --archive data/archive --output october.html "
        "--since 2026-10-01 --until 2026-11-01",
    )  # fmt: skip
    _archive(command)
    command.add_argument("--output", required=True, metavar="FILE.html", type=Path)
    _selection(command)
    _left_out(command)
    command.add_argument(
        "--objective", type=_percentage, default="99.9", metavar="PERCENT", help="default: 99.9"
    )
    command.add_argument("--title", metavar="TEXT")
    command.set_defaults(run=_run_report)


def _run_report(options: argparse.Namespace) -> int:
    from cdpanalytics.archive import Archive

    selection = _asked(Archive(options.archive), options)
    page = selection.report(options.output, title=options.title)
    print(page)
    return OK


def _check(commands: Any) -> None:
    command = commands.add_parser(
        "check", help="was the objective met: 0 met, 2 missed, 3 unknown",
        epilog="Example: cdpanalytics check --archive data/archive --objective 99.9 --since 1D",
    )  # fmt: skip
    _archive(command)
    _selection(command)
    _left_out(command)
    command.add_argument(
        "--by", metavar="KEYS", type=_keys, default=["policy"], help="default: policy"
    )
    command.add_argument(
        "--objective", type=_percentage, default="99.9", metavar="PERCENT", help="default: 99.9"
    )
    command.set_defaults(run=_run_check)


def _run_check(options: argparse.Namespace) -> int:
    """Print a line a group; exit as the worst of them, an error being unknown."""
    try:
        return _checked(options)
    except CdpError as error:
        print(f"UNKNOWN: {_one_line(str(error))}")
        return NOT_KNOWN


def _checked(options: argparse.Namespace) -> int:
    from cdpanalytics.archive import Archive
    from cdpanalytics.presentation import formatting

    table = _asked(Archive(options.archive), options).objectives(by=options.by)
    for line in formatting.objective_lines(table):
        print(line)
    if table.empty:
        print("UNKNOWN: no session matches, so nothing is known to have been met")
    if (table["passed"] == False).any():  # noqa: E712
        return MISSED
    return NOT_KNOWN if table.empty or table["passed"].isna().any() else OK


def _verify(commands: Any) -> None:
    command = commands.add_parser(
        "verify", help="is every file readable and every row valid",
        epilog="Example: cdpanalytics verify --archive data/archive",
    )  # fmt: skip
    _archive(command)
    command.add_argument(
        "--set-aside", action="store_true",
        help="move damaged files to DIR/damaged, for the next sync to fetch their days again",
    )  # fmt: skip
    command.set_defaults(run=_run_verify)


def _run_verify(options: argparse.Namespace) -> int:
    from cdpanalytics.archive import Archive

    archive = Archive(options.archive)
    analysis = archive.verify()
    for path, finding in zip(analysis["path"], analysis["finding"], strict=True):
        print(f"{path}: {_one_line(finding)}")
    if options.set_aside:
        with archive.writing():
            for path in archive.set_aside(thorough=True):
                print(
                    f"{archive.path}/{path} was moved to {archive.path}/damaged; "
                    "sync fetches what the server has"
                )
    if analysis["kind"].eq("damage").any():
        return ERROR
    ledger, holes = archive.ledger(), archive.holes().fillna({"backup_server": ""})
    for source, server, start, end in holes.itertuples(index=False):
        whose = f"{source} ({_one_line(server)})" if server else source
        print(f"hole: {whose} is not known from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC")
    print(f"ok: {len(ledger):,} days, {ledger['rows'].sum():,} sessions, {len(holes):,} holes")
    return OK


def _simulate(commands: Any) -> None:
    command = commands.add_parser(
        "simulate", help="run a simulated Enterprise Manager on loopback",
        epilog="Example: cdpanalytics simulate --port 9398 (user demo, password demo)",
    )  # fmt: skip
    command.add_argument(
        "--port", type=int, default=9398, help="default: %(default)s; 0: any free one"
    )
    _estate(command)
    command.add_argument("--tls", action="store_true", help="https with a certificate of its own")
    command.add_argument(
        "--fault", action="append", default=[], metavar="KIND[:TIMES]",
        help="what goes wrong, e.g. busy:3 or reset:lasting; an unknown one lists them all",
    )  # fmt: skip
    command.set_defaults(run=_run_simulate)


def _run_simulate(options: argparse.Namespace) -> int:
    from cdpanalytics.simulator import Fault, Fleet, Simulator, serve

    if options.vms < 1 or options.days < 1:
        raise InputError(
            f"--vms {options.vms} --days {options.days}: at least one of each is needed"
        )

    try:
        faults = [Fault.read(text) for text in options.fault]
    except ValueError as error:
        raise InputError(f"--fault: {error}") from None

    def ready(simulator: Simulator) -> None:
        print(f"{simulator.url} (user demo, password demo); Ctrl+C ends it", flush=True)
        if simulator.ca_bundle:
            print(f"--ca-bundle {simulator.ca_bundle}", flush=True)

    fleet = Fleet.generate(vms=options.vms, days=options.days, seed=options.seed)
    try:
        serve(fleet, ready=ready, port=options.port, tls=options.tls, faults=faults)
    except (OSError, RuntimeError, OverflowError) as error:
        raise CdpError(f"cannot serve on port {options.port}: {error}; try --port 0") from None
    return OK


def _login(commands: Any) -> None:
    command = commands.add_parser(
        "login", help="keep a server's password in the keyring",
        epilog="Example: cdpanalytics login https://em.tech.local:9398 --user 'TECH\\analyst'",
    )  # fmt: skip
    command.add_argument("url", metavar="URL")
    command.add_argument("--user", metavar="NAME")
    command.set_defaults(run=_run_login)
    command = commands.add_parser(
        "logout", help="forget a server's password",
        epilog="Example: cdpanalytics logout https://em.tech.local:9398",
    )  # fmt: skip
    command.add_argument("url", metavar="URL")
    command.add_argument("--user", metavar="NAME")
    command.set_defaults(run=_run_logout)


def _run_login(options: argparse.Namespace) -> int:
    from cdpanalytics import settings

    url = settings.base_url(options.url)
    user = options.user or settings.ask("user", url, settings.USERNAME)
    settings.remember(url, user, settings.ask("password", url, settings.PASSWORD))
    return OK


def _run_logout(options: argparse.Namespace) -> int:
    from cdpanalytics import settings

    settings.forget(settings.base_url(options.url), options.user)
    return OK


# -- arguments that several commands share ------------------------------------------


def _server(command: argparse.ArgumentParser) -> None:
    command.add_argument("url", nargs="?", metavar="URL", help="default: CDPANALYTICS_URL")
    command.add_argument("--user", metavar="NAME", help="password: environment, keyring or prompt")
    command.add_argument("--ca-bundle", metavar="FILE", help="certificates to trust")
    command.add_argument(
        "--insecure", action="store_true", help="do not verify the certificate; for a look only"
    )
    command.add_argument("--xml", action="store_true", help="ask for XML instead of JSON")


def _archive(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--archive", required=True, metavar="DIR", help="a directory, or s3://bucket/prefix"
    )


def _estate(command: argparse.ArgumentParser) -> None:
    command.add_argument("--vms", type=int, default=60, metavar="N", help="default: %(default)s")
    command.add_argument("--days", type=int, default=30, metavar="N", help="default: %(default)s")
    command.add_argument("--seed", type=int, default=1, metavar="S", help="default: %(default)s")


def _selection(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--since", metavar="T", help="2026-10-01, or 30D back from the newest data"
    )
    command.add_argument("--until", metavar="T")
    command.add_argument(
        "--policy", action="append", metavar="P", help="name or pattern; may be repeated"
    )
    command.add_argument(
        "--vm", action="append", metavar="V", help="name or pattern; may be repeated"
    )
    command.add_argument(
        "--rpo",
        metavar="LENGTH",
        help="target, e.g. 15min; default: the policy's own (what-if: several, e.g. 1min,1h)",
    )
    command.add_argument("--tz", default="UTC", metavar="ZONE", help="default: %(default)s")


def _left_out(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--exclude", metavar="FILE.csv", type=_maintenance,
        help="maintenance windows: columns start, end, and backup_server, policy, vm",
    )  # fmt: skip
    command.add_argument(
        "--retire-after", metavar="LENGTH", help="VMs uncovered that long now are left out, e.g. 7D"
    )


def _output(command: argparse.ArgumentParser) -> None:
    command.add_argument("--format", choices=FORMATS, default="table", help="default: %(default)s")
    command.add_argument("--output", metavar="FILE", type=Path, help="default: standard output")


def _manager(options: argparse.Namespace, *, cache: bool) -> Any:
    from cdpanalytics.server.client import EnterpriseManager

    return EnterpriseManager(
        options.url, options.user, ca_bundle=options.ca_bundle, verify=not options.insecure, cache=cache,
        accept="xml" if options.xml else "json",
    )  # fmt: skip


def _emit(table: pd.DataFrame, options: argparse.Namespace) -> int:
    """Write a table in the format asked for, to a file whole or not at all."""
    from cdpanalytics.presentation import formatting

    if options.format == "parquet":
        if options.output is None:
            raise InputError("--format parquet needs --output FILE")
        formatting.write(options.output, formatting.parquet(table))
        return OK
    if options.format == "table" and options.output is None:
        _print_table(table)
        return OK
    text = {"json": formatting.json_text, "csv": formatting.csv_text, "table": formatting.text}[
        options.format
    ](table)
    if options.output is None:
        sys.stdout.write(text)
    else:
        formatting.write(options.output, text.encode())
    return OK


def _print_table(table: pd.DataFrame) -> None:
    from cdpanalytics.presentation import formatting

    sys.stdout.write(formatting.text(table))


def _keys(text: str) -> list[str]:
    """Read "policy,vm"; "none" is one row in all."""
    return [] if text == "none" else [key.strip() for key in text.split(",") if key.strip()]


def _percentage(text: str) -> float:
    """Read "99.9" as the share it is, exact to the digit."""
    try:
        percent = Decimal(text)
    except ArithmeticError:
        percent = Decimal(0)
    if not 0 < percent <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage above 0 and up to 100")
    return float(percent / 100)


def _count(text: str) -> int:
    """Read a whole number above 0."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _maintenance(path: str) -> pd.DataFrame:
    """Read maintenance windows from a CSV file; times without a zone are UTC."""
    import pandas as pd

    try:
        windows = pd.read_csv(path, dtype="str", skipinitialspace=True)
        for column in windows.columns.intersection(["start", "end"]):
            windows[column] = pd.to_datetime(windows[column], utc=True)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{path} cannot be read: {error}") from None
    return windows


def _one_line(text: str) -> str:
    """A message without line breaks or control characters, however hostile its parts."""
    return "".join(character if character.isprintable() else " " for character in text)


def run() -> NoReturn:
    """Run the command line and exit with its code."""
    sys.exit(main())
