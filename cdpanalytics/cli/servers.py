"""The commands that talk to an Enterprise Manager, and those that keep its password."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdpanalytics.cli import options as shared
from cdpanalytics.cli.tables import emit, prepare
from cdpanalytics.presentation import output

if TYPE_CHECKING:
    from cdpanalytics.server.client import EnterpriseManager


def add_doctor(commands: Any) -> None:
    """Add ``doctor``."""
    command = commands.add_parser(
        "doctor",
        help="check a server (network, TLS, log-on, version, clock, memory), or the estate file",
        epilog='Example: cdpanalytics doctor https://em.tech.local:9398 --user "TECH\\analyst"',
    )
    _add_server(command)
    command.add_argument(
        "--archive", metavar="DIR", help="check its cdpanalytics.toml and the tables that it names"
    )
    command.add_argument("--estate", metavar="FILE", help="the estate file, if it lies elsewhere")
    command.set_defaults(run=_run_doctor)


def _run_doctor(options: argparse.Namespace) -> int:
    from cdpanalytics.server.diagnostics import examine

    any_failed = options.archive is not None and _any_estate_problem(options)
    if options.archive is not None and options.url is None:
        return 1 if any_failed else 0
    with _manager(options) as em:
        for finding in examine(em):
            output.print_table(output.one_line(str(finding)) + "\n")
            output.flush()  # each finding as soon as it is there: a check may take its time
            any_failed |= finding.verdict == "failed"
    return 1 if any_failed else 0


def _any_estate_problem(options: argparse.Namespace) -> bool:
    """Print what is wrong or odd about the estate file, line by line; return whether it cannot be read."""
    from cdpanalytics.archive import Archive
    from cdpanalytics.estate.file import NAME, check

    archive = Archive(options.archive)
    path = options.estate or archive.path
    if options.estate is None and not (Path(archive.path) / NAME).exists():
        _print_finding("ok", f"{archive.path} has no {NAME}; times and schedules are UTC")
        return False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        problems = check(path)
        selection = None if problems else archive.select(estate=options.estate)
    for problem in problems:
        _print_finding("failed", str(problem))
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        _print_finding("warning", message)
    if selection is None:
        return True
    for name, digest in selection.context.files.items():
        _print_finding("ok", f"{Path(name).name} can be read; SHA-256 {digest}")
    for finding in selection.findings():
        _print_finding("warning", finding)
    return False


def _print_finding(verdict: str, text: str) -> None:
    output.print_table(output.one_line(f"{verdict:8}{'estate':10}{text}") + "\n")


def add_sync(commands: Any) -> None:
    """Add ``sync``."""
    command = commands.add_parser(
        "sync", help="fetch what is new on the server into an archive",
        epilog="Example: cdpanalytics sync https://em.tech.local:9398 --archive data/archive",
    )  # fmt: skip
    _add_server(command)
    shared.add_archive(command)
    command.add_argument("--since", metavar="T", help="first day to fetch: 2026-10-01 or 90D")
    command.add_argument("--full", action="store_true", help="fetch every day again")
    command.add_argument(
        "--quick", action="store_true", help="do not compare settled days with the server"
    )
    command.add_argument(
        "--allow-clock-difference", action="store_true", default=None,
        help="continue although the server's clock differs from this machine's by over an hour",
    )  # fmt: skip
    command.add_argument(
        "--journal", action="store_true", help="also each VM's restorable intervals"
    )
    command.set_defaults(run=_run_sync)


def _run_sync(options: argparse.Namespace) -> int:
    from cdpanalytics.archive import Archive
    from cdpanalytics.synchronize import sync

    archive = Archive(options.archive)
    with _manager(options) as em:
        result = sync(
            em, archive, options.since, full=options.full, quick=options.quick,
            journal=options.journal, allow_clock_difference=options.allow_clock_difference,
            progress=output.stderr_is_terminal(),
        )  # fmt: skip
    output.print_error(f"{archive.path}: {result}")
    return 0


def add_query(commands: Any) -> None:
    """Add ``query``."""
    command = commands.add_parser(
        "query", help="the API's own query, all pages",
        epilog='Example: cdpanalytics query URL --filter "State==InProgress"',
    )  # fmt: skip
    _add_server(command)
    command.add_argument("--filter", metavar="TEXT", help="as the vendor's manual writes it")
    command.add_argument(
        "--sort", metavar="FIELD", default="CreationTimeUTC", help="default: %(default)s"
    )
    command.add_argument("--descending", action="store_true")
    command.add_argument("--references", action="store_true", help="names and identifiers only")
    shared.add_output(command)
    command.set_defaults(run=_run_query)


def _run_query(options: argparse.Namespace) -> int:
    prepare(options)
    with _manager(options) as em:
        table = em.query(
            options.filter,
            sort=options.sort,
            descending=options.descending,
            references=options.references,
        )
    return emit(table, options)


def add_login(commands: Any) -> None:
    """Add ``login``."""
    command = commands.add_parser(
        "login", help="store a server's password in the keyring",
        epilog='Example: cdpanalytics login https://em.tech.local:9398 --user "TECH\\analyst"',
    )  # fmt: skip
    command.add_argument("url", metavar="URL")
    command.add_argument("--user", metavar="NAME")
    command.set_defaults(run=_run_login)


def _run_login(options: argparse.Namespace) -> int:
    from cdpanalytics import settings

    url = settings.base_url(options.url)
    user = options.user or settings.ask("user", url, settings.USERNAME)
    settings.remember(url, user, settings.ask("password", url, settings.PASSWORD))
    return 0


def add_logout(commands: Any) -> None:
    """Add ``logout``."""
    command = commands.add_parser(
        "logout", help="delete a server's password from the keyring",
        epilog="Example: cdpanalytics logout https://em.tech.local:9398",
    )  # fmt: skip
    command.add_argument("url", metavar="URL")
    command.add_argument("--user", metavar="NAME")
    command.set_defaults(run=_run_logout)


def _run_logout(options: argparse.Namespace) -> int:
    from cdpanalytics import settings

    settings.forget(settings.base_url(options.url), options.user)
    return 0


def _add_server(command: argparse.ArgumentParser) -> None:
    command.add_argument("url", nargs="?", metavar="URL", help="default: CDPANALYTICS_URL")
    command.add_argument("--user", metavar="NAME", help="password: environment, keyring or prompt")
    command.add_argument("--ca-bundle", metavar="FILE", help="certificates to trust")
    command.add_argument(
        "--insecure", action="store_true", help="do not verify the certificate; for tests only"
    )
    command.add_argument("--xml", action="store_true", help="request XML instead of JSON")


def _manager(options: argparse.Namespace) -> EnterpriseManager:
    from cdpanalytics.server.client import EnterpriseManager

    return EnterpriseManager(
        options.url, options.user, ca_bundle=options.ca_bundle, verify=not options.insecure,
        cache=False, accept="xml" if options.xml else "json",
    )  # fmt: skip
