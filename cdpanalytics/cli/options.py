"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from typing import Any

from cdpanalytics.errors import InputError
from cdpanalytics.presentation import output
from cdpanalytics.timeparse import share

_FORMATS = ("table", "csv", "csv-excel", "xlsx", "json", "parquet")
SEPARATORS = {",": ",", ";": ";", "tab": "\t"}


def add_archive(command: argparse.ArgumentParser) -> None:
    """Add ``--archive``."""
    command.add_argument(
        "--archive", required=True, metavar="DIR", help="a directory, or s3://bucket/prefix"
    )


def add_window(command: argparse.ArgumentParser) -> None:
    """Add the options that say which sessions: window, names and zone."""
    period = command.add_mutually_exclusive_group()
    period.add_argument(
        "--period", metavar="P", help='2026-10, 2026-Q4, "last month", "last 30 days"'
    )
    period.add_argument("--since", metavar="T",
        help="2026-10-01, or 30D back from the newest data; default: all of the archive",
    )  # fmt: skip
    command.add_argument("--until", metavar="T", help="exclusive; default: the newest data")
    command.add_argument(
        "--policy", action="append", metavar="P", help="name or pattern; may be repeated"
    )
    command.add_argument(
        "--vm", action="append", metavar="V", help="name or pattern; may be repeated"
    )
    command.add_argument(
        "--server", action="append", metavar="S", help="backup server: name or pattern"
    )
    command.add_argument(
        "--tag", action=_TagAction, metavar="NAME=VALUE", help="a tag and its value or pattern"
    )
    command.add_argument("--tags", metavar="FILE", help="table of tags: CSV, Parquet or workbook")
    command.add_argument(
        "--tz", metavar="ZONE", help="of periods and days; default: the estate file's, else UTC"
    )
    estate = command.add_mutually_exclusive_group()
    estate.add_argument(
        "--estate", metavar="FILE", help="default: cdpanalytics.toml in the archive's folder"
    )
    estate.add_argument(
        "--no-estate", dest="estate", action="store_const", const=False, help="read no estate file"
    )


def add_target(command: argparse.ArgumentParser) -> None:
    """Add ``--rpo``."""
    command.add_argument(
        "--rpo", metavar="LENGTH", help="target, e.g. 15min; default: the policy's own RPO"
    )


def add_objective(command: argparse.ArgumentParser) -> None:
    """Add ``--objective``."""
    command.add_argument(
        "--objective", type=percentage("--objective", told=False), metavar="PERCENT",
        help="share of the time in which the RPO is to be met; default: the estate file's, else 99.9",
    )  # fmt: skip


def add_excluded(command: argparse.ArgumentParser) -> None:
    """Add ``--exclude``."""
    exclusions = command.add_mutually_exclusive_group()
    exclusions.add_argument(
        "--exclude", action="append", metavar="FILE",
        help="maintenance windows: CSV, workbook or iCalendar; may be repeated",
    )  # fmt: skip
    exclusions.add_argument(
        "--no-exclude", dest="exclude", action="store_const", const=False,
        help="leave nothing out, whatever the estate file says",
    )  # fmt: skip
    command.add_argument(
        "--grace", metavar="LENGTH", help="leave out this long after a VM's first attempt, e.g. 1D"
    )


def add_retirement(command: argparse.ArgumentParser) -> None:
    """Add ``--retire-after``."""
    command.add_argument(
        "--retire-after", metavar="LENGTH",
        help="leave out the time of a VM after it was without protection for this long, e.g. 7D",
    )  # fmt: skip


def add_keys(command: argparse.ArgumentParser, default: list[str] | None, shown: str) -> None:
    """Add ``--by``."""
    command.add_argument(
        "--by", metavar="KEYS", type=keys, default=default,
        help=f"policy,vm,backup_server, a tag such as department, or none; default: {shown}",
    )  # fmt: skip


def add_group(command: argparse.ArgumentParser) -> None:
    """Add ``--by`` of a report or workbook, which takes one key."""
    command.add_argument(
        "--by", metavar="KEY", default="policy",
        help="groups of objectives, sizes and changes: policy (default), backup_server or a tag",
    )  # fmt: skip


def add_frequency(command: argparse.ArgumentParser) -> None:
    """Add ``--freq``."""
    command.add_argument("--freq", choices=("h", "D", "W", "MS"), help="split into periods")


def add_question(command: argparse.ArgumentParser) -> None:
    """Add the period, the names and the terms of a question."""
    add_window(command)
    add_target(command)
    add_objective(command)
    add_excluded(command)
    add_retirement(command)


def add_sides(command: argparse.ArgumentParser) -> None:
    """Add ``--sides``."""
    command.add_argument(
        "--sides", metavar="COLUMN=A,B",
        help="two groups side by side: policy=Gold,Silver, server=A,B, rpo=15min,1h, "
        "period=2026-09,2026-10, or a tag",
    )  # fmt: skip


def add_clusters(command: argparse.ArgumentParser) -> None:
    """Add ``--within`` and ``--merge``."""
    command.add_argument(
        "--within", metavar="LENGTH", default="10min",
        help="how far apart gaps of one incident may begin; default: %(default)s",
    )  # fmt: skip
    command.add_argument(
        "--merge", metavar="LENGTH", default="1h",
        help="shorter protection between two gaps of a VM does not separate them; default: %(default)s",
    )  # fmt: skip


def add_instant(command: argparse.ArgumentParser) -> None:
    """Add ``--at``."""
    command.add_argument(
        "--at", metavar="T",
        help="2026-10-14T14:05, or 2h back from the newest data; default: the period's end",
    )  # fmt: skip


def add_output(command: argparse.ArgumentParser) -> None:
    """Add ``--format`` and ``--output`` of a table."""
    command.add_argument("--format", choices=_FORMATS, default="table", help="default: %(default)s")
    command.add_argument(
        "--separator", choices=tuple(SEPARATORS), metavar="SIGN",
        help="of csv-excel: , or ; or tab; default: a comma, with --decimal , a semicolon",
    )  # fmt: skip
    command.add_argument(
        "--decimal", choices=(".", ","), metavar="SIGN", help="of csv-excel; default: a point"
    )
    command.add_argument(
        "--output", metavar="FILE", type=destination, default=output.STDOUT,
        help="a file, pipe or device; -, the default, is standard output",
    )  # fmt: skip


def keys(text: str) -> list[str]:
    """Read "policy,vm" as a list of keys; "none" is one row for everything."""
    return [] if text == "none" else [key.strip() for key in text.split(",") if key.strip()]


def numbers(text: str) -> list[int]:
    """Read "1,3" as numbers of incidents."""
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers; write 1,3") from None


def percentage(option: str, *, told: bool = True) -> Callable[[str], float]:
    """Return a type that reads "99.9", "99.9%" or "0.999" as a share.

    A low one is told here, unless what the share is given to tells it.
    """

    def read(text: str) -> float:
        try:
            with warnings.catch_warnings():
                if not told:
                    warnings.simplefilter("ignore", UserWarning)
                return share(text, option)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Return a type that reads a whole number between two bounds, both included."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:  # also: more digits than Python converts
            number = least - 1
        if not least <= number <= most:
            shown = text if len(text) <= 30 else f"{text[:27]}..."
            message = f"{shown!r} is not a whole number from {least:,} to {most:,}"
            raise argparse.ArgumentTypeError(message)
        return number

    return read


def destination(name: str) -> str:
    """Read the name of an output; an empty one is refused before any work."""
    if not name.strip():
        message = "the name of the output is empty; name a file, or - for standard output"
        raise argparse.ArgumentTypeError(message)
    return name


class _TagAction(argparse.Action):
    """Collect NAME=VALUE pairs as a mapping of names to patterns."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Add one pair."""
        name, value = _pair(values)
        if not name or not value:
            parser.error(f"argument {option_string}: {values!r} is not NAME=VALUE")
        tags = dict(getattr(namespace, self.dest) or {})
        tags[name] = [*tags.get(name, ()), value]
        setattr(namespace, self.dest, tags)


class PairAction(argparse.Action):
    """Collect NAME=VALUE pairs as a mapping; a name given twice is refused."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Add one pair."""
        name, value = _pair(values)
        pairs = dict(getattr(namespace, self.dest) or {})
        if not name or not value or name in pairs:
            parser.error(f"argument {option_string}: {values!r} is not NAME=VALUE with a new name")
        setattr(namespace, self.dest, {**pairs, name: value})


def _pair(text: Any) -> tuple[str, str]:
    """Return the two parts of NAME=VALUE; one is empty where the text is not such a pair."""
    name, _, value = str(text).partition("=")
    return name.strip(), value.strip()
