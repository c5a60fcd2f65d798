"""The command that monitoring systems call."""

from __future__ import annotations

import argparse
from typing import Any

from cdpanalytics import timeparse
from cdpanalytics.cli import options as shared
from cdpanalytics.cli.questions import selection_of
from cdpanalytics.presentation import monitoring, output


def add_check(commands: Any) -> None:
    """Add ``check``."""
    command = commands.add_parser(
        "check", help="a monitoring plugin: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN",
        epilog="Example: cdpanalytics check --archive data/archive --objective 99.9 --since 1D",
    )  # fmt: skip
    shared.add_archive(command)
    shared.add_question(command)
    shared.add_keys(command, ["policy"], "policy")
    command.add_argument(
        "--critical", type=shared.percentage("--critical"), metavar="PERCENT",
        help="CRITICAL below this share; default: the objective",
    )  # fmt: skip
    command.add_argument(
        "--warning", type=shared.percentage("--warning"), metavar="PERCENT",
        help="WARNING below this share; default: only if a VM is breached at the end",
    )  # fmt: skip
    command.add_argument(
        "--max-age", default=monitoring.MAX_AGE, metavar="LENGTH",
        help="UNKNOWN if the newest data of a server is older; default: %(default)s",
    )  # fmt: skip
    command.add_argument(
        "--format", choices=("plugin", "prometheus"), default="plugin",
        help="prometheus: for a node exporter's textfile collector; default: %(default)s",
    )  # fmt: skip
    command.add_argument(
        "--output", metavar="FILE", type=shared.destination, default=output.STDOUT,
        help="replaced in one step; -, the default, is standard output",
    )  # fmt: skip
    command.set_defaults(run=_run_check)


def _run_check(options: argparse.Namespace) -> int:
    """Write the state of each group, and exit as the worst of them."""
    import pandas as pd

    output.check(options.output)
    max_age = timeparse.length(options.max_age, "--max-age")
    limits = monitoring.Limits(options.critical, options.warning, max_age)
    selection = selection_of(options)
    verdicts = monitoring.judge(selection, options.by, limits, pd.Timestamp.now("UTC"))
    if options.format == "prometheus":
        output.write_text(options.output, monitoring.prometheus_text(verdicts))
        return verdicts.exit_code
    lines = monitoring.plugin_text(verdicts).splitlines()
    text = "".join(f"{output.one_line(line)}\n" for line in lines)
    if output.is_stdout(options.output):
        output.print_table(text)
    else:
        output.write_text(options.output, text)
    return verdicts.exit_code
