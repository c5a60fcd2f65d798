"""The commands that need no server: the demonstration and the simulated Enterprise Manager."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

from cdpanalytics.cli import options as shared
from cdpanalytics.errors import CdpError, InputError
from cdpanalytics.presentation import output

if TYPE_CHECKING:
    from cdpanalytics.simulator import Simulator

_MOST_VMS: Final = 100_000
_MOST_DAYS: Final = 3_660
_MOST_VM_DAYS: Final = 5_000_000
"""VMs times days of the largest simulated estate: several GB of memory."""

_DEMO_COLUMNS: Final = [
    "backup_server", "policy", "vm", "rpo", "observed", "breached", "worst_gap", "adherence",
]  # fmt: skip


def add_demo(commands: Any) -> None:
    """Add ``demo``."""
    command = commands.add_parser(
        "demo", help="simulated server, sync, metrics, report",
        epilog="Example: cdpanalytics demo --directory demo",
    )  # fmt: skip
    command.add_argument(
        "--directory", default="demo", metavar="DIR", type=shared.destination,
        help="default: %(default)s",
    )  # fmt: skip
    _add_fleet(command)
    command.set_defaults(run=_run_demo)


def _run_demo(options: argparse.Namespace) -> int:
    from cdpanalytics.demo import demo
    from cdpanalytics.presentation import formatting

    _check_size(options)
    result = demo(
        options.directory, vms=options.vms, days=options.days, seed=options.seed,
        progress=output.stderr_is_terminal(),
    )  # fmt: skip
    output.print_error(f"Synced: {result.synced}")
    output.print_table("The three worst VMs:\n" + formatting.text(result.worst[_DEMO_COLUMNS]))
    output.print_text(f"Report: {result.report.resolve()}\n")
    return 0


def add_simulate(commands: Any) -> None:
    """Add ``simulate``."""
    command = commands.add_parser(
        "simulate", help="run a simulated Enterprise Manager on loopback",
        epilog="Example: cdpanalytics simulate --port 9398 (user demo, password demo)",
    )  # fmt: skip
    command.add_argument(
        "--port", type=shared.whole_number(0, 65_535), default=9398,
        help="default: %(default)s; 0: any free one",
    )  # fmt: skip
    _add_fleet(command)
    command.add_argument("--tls", action="store_true", help="https with a self-made certificate")
    command.add_argument(
        "--fault", action="append", default=[], metavar="KIND[:TIMES]",
        help="a fault to simulate, e.g. busy:3 or reset:lasting; an unknown one lists them all",
    )  # fmt: skip
    command.set_defaults(run=_run_simulate)


def _run_simulate(options: argparse.Namespace) -> int:
    from cdpanalytics.simulator import Fault, Fleet, serve

    _check_size(options)
    try:
        faults = [Fault.read(text) for text in options.fault]
    except ValueError as error:
        raise InputError(f"--fault: {error}") from None
    fleet = Fleet.generate(vms=options.vms, days=options.days, seed=options.seed)
    try:
        serve(fleet, ready=_announce, port=options.port, tls=options.tls, faults=faults)
    except KeyboardInterrupt:  # Ctrl+C and SIGTERM are how a simulation ends
        return 0
    except (OSError, RuntimeError, OverflowError) as error:
        raise CdpError(f"cannot serve on port {options.port}: {error}; try --port 0") from None
    return 0


def _announce(simulator: Simulator) -> None:
    output.print_text(f"{simulator.url} (user demo, password demo); Ctrl+C ends it\n")
    if simulator.ca_bundle:
        output.print_text(f"--ca-bundle {simulator.ca_bundle}\n")
    output.flush()


def _add_fleet(command: argparse.ArgumentParser) -> None:
    for name, default, least, most in (
        ("vms", 60, 1, _MOST_VMS), ("days", 30, 1, _MOST_DAYS), ("seed", 1, 0, 2**32 - 1),
    ):  # fmt: skip
        command.add_argument(
            f"--{name}", type=shared.whole_number(least, most), default=default, metavar="N",
            help="default: %(default)s",
        )  # fmt: skip


def _check_size(options: argparse.Namespace) -> None:
    vm_days = options.vms * options.days
    if vm_days > _MOST_VM_DAYS:
        raise InputError(
            f"--vms {options.vms} --days {options.days} is {vm_days:,} days of VMs; "
            f"use at most {_MOST_VM_DAYS:,}"
        )
