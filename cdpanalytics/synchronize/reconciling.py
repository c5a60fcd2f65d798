"""Find the days on which the server has other sessions than when it was last asked.

A day that looks settled may not be: a backup server that was not collected for two days, a
collection that stood still, an account whose scope was narrowed, or a server restored from a
backup all bring sessions of days long past. Counting is cheap: one request of one row says
how many sessions a window has. So each day's count is kept, and compared at each sync.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from cdpanalytics.synchronize.days import DAY, Retention

Count = Callable[[pd.Timestamp, pd.Timestamp], int]
"""How many sessions the server has of a window."""

_CLOSE = 6
"""Days before today that are fetched again at each sync: a result or an end may be restated."""

_ONE_BY_ONE = pd.Timedelta("91D")
"""Days of this age are counted one by one; older ones in blocks, and by halves where they differ."""

BLOCK = 28


@dataclass(frozen=True)
class Recheck:
    """Days held that are to be fetched again.

    Parameters
    ----------
    close : set of pandas.Timestamp
        Those of the last week, whatever their counts.
    changed : set of pandas.Timestamp
        Older ones whose count differs from that of the last look, or was never taken, and
        those with a hole that the server can fill.
    """

    close: frozenset[pd.Timestamp] = frozenset()
    changed: frozenset[pd.Timestamp] = frozenset()


@dataclass(frozen=True)
class Counted:
    """A day, and the number of sessions that the server had of it at the last look."""

    day: pd.Timestamp
    count: int | None


def days_to_recheck(
    ledger: pd.DataFrame, now: pd.Timestamp, retention: Retention, count: Count, parallel: int = 1
) -> Recheck:
    """Return the days held that are to be fetched again.

    Parameters
    ----------
    ledger : pandas.DataFrame
        ``day``, ``counted`` and ``missing`` of what the archive has of this source.
    now : pandas.Timestamp
        The server's clock.
    retention : Retention
        Days before the server's oldest session are not compared.
    count : callable
        `EnterpriseManager.count_task_sessions`.
    parallel : int
        Requests at a time.

    Returns
    -------
    Recheck
    """
    today = now.normalize()
    held = [
        Counted(row["day"], None if pd.isna(row["counted"]) else int(row["counted"]))
        for row in ledger.sort_values("day").to_dict("records")
        if retention.oldest_session < row["day"] + DAY <= today
    ]
    close = frozenset(row.day for row in held if row.day >= today - _CLOSE * DAY)
    holes = {row["day"] for row in ledger.to_dict("records")
             if any(end > retention.complete_since for _, end in row["missing"])}  # fmt: skip
    others = [row for row in held if row.day not in close | holes]
    with ThreadPoolExecutor(parallel, thread_name_prefix="count") as pool:
        changed = pool.map(lambda block: changed_days(block, count), _blocks(others, today))
        return Recheck(close, frozenset(holes - close).union(*changed))


def changed_days(block: Sequence[Counted], count: Count) -> list[pd.Timestamp]:
    """Return the days of a block, which adjoin, whose counts differ from the server's.

    Halves are counted only where their sum differs: a block without a difference costs one
    request.
    """
    if any(row.count is None for row in block) and len(block) > 1:
        return [day for row in block for day in changed_days([row], count)]
    actual = count(block[0].day, block[-1].day + DAY)
    return _differing(block, actual, count)


def _differing(block: Sequence[Counted], actual: int, count: Count) -> list[pd.Timestamp]:
    expected = [row.count for row in block]
    if None not in expected and actual == sum(number or 0 for number in expected):
        return []
    if len(block) == 1:
        return [block[0].day]
    half = len(block) // 2
    first = count(block[0].day, block[half].day)
    return [
        *_differing(block[:half], first, count),
        *_differing(block[half:], actual - first, count),
    ]


def _blocks(held: Sequence[Counted], today: pd.Timestamp) -> Iterator[list[Counted]]:
    """Yield days one by one where they are recent, older ones in blocks of days that adjoin."""
    block: list[Counted] = []
    for row, following in pairwise([*held, None]):
        assert row is not None  # noqa: S101 - None comes last
        block.append(row)
        recent = row.day >= today - _ONE_BY_ONE
        adjoins = following is not None and following.day == row.day + DAY
        if recent or not adjoins or len(block) == BLOCK:
            yield block
            block = []
