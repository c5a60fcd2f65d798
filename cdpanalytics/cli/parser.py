"""The parser of the whole command line."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from cdpanalytics.presentation import output


class UsageError(Exception):
    """Arguments that the parser refuses, as one line."""


class _Parser(argparse.ArgumentParser):
    """An argparse parser that raises `UsageError` and prints help as the terminal can show it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.set_defaults(command=self.prog)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse all arguments; an unknown one names the help of the command it was given to."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            message = f"unrecognized arguments: {' '.join(unknown)}"
            raise UsageError(f"{message}; see {options.command} --help")
        return options

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong and where the help is, instead of printing and exiting."""
        raise UsageError(f"{message}; see {self.prog} --help")

    def _print_message(self, message: str, file: object = None) -> None:
        output.print_text(message)


class _Version(argparse.Action):
    """Print the version and exit; it is looked up only where it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        output.print_text(f"{parser.prog} {version('cdpanalytics')}\n")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    from cdpanalytics.cli import archives, monitoring, questions, servers, simulation

    root = _Parser(
        prog="cdpanalytics",
        description="Were we protected? Veeam CDP session records as answers.",
        epilog="Start with: cdpanalytics demo. With your own server: cdpanalytics doctor URL, "
        "then cdpanalytics sync URL --archive DIR, then report, metrics and check. "
        "Exit codes: 0 done, 1 error, 2 wrong usage; check: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.",
    )
    root.set_defaults(run=None)
    root.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands: Any = root.add_subparsers(title="commands", metavar="COMMAND")
    simulation.add_demo(commands)
    servers.add_doctor(commands)
    servers.add_sync(commands)
    servers.add_query(commands)
    questions.add_metrics(commands)
    questions.add_incidents(commands)
    questions.add_status(commands)
    questions.add_report(commands)
    questions.add_export(commands)
    monitoring.add_check(commands)
    archives.add_verify(commands)
    archives.add_import(commands)
    simulation.add_simulate(commands)
    servers.add_login(commands)
    servers.add_logout(commands)
    return root
