"""Incidents to plant: what breaks, when, and which VMs it stops; also what only looks like one."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .history import (
    FAILED_REASONS,
    NO_REASON,
    REASONS,
    STORAGE_REASON,
    Calendar,
    Event,
)
from .instants import DAY, HOUR, MINUTE, snap

KINDS = ("datastore", "backup server", "datastore", "proxy", "network")
"""Kind of each planted incident by its number; number 0 is the storage outage of every estate."""

_CAUSES = {
    "backup server": NO_REASON,
    "datastore": REASONS.index(STORAGE_REASON),
    "proxy": REASONS.index(FAILED_REASONS[1]),
    "network": REASONS.index(FAILED_REASONS[0]),
}
_HIT = {"backup server": 1.0, "datastore": 0.8, "proxy": 0.5, "network": 0.6}
"""Share of the VMs in reach that an incident stops."""


class Layout(NamedTuple):
    """The site and the number of VMs of each policy."""

    site: Sequence[int]
    machines: Sequence[int]


def kind_of(number: int) -> str:
    """Return the kind of the planted incident of this number."""
    return KINDS[number if number < len(KINDS) else 1 + (number - 1) % (len(KINDS) - 1)]


def plant(
    random: np.random.Generator, calendar: Calendar, layout: Layout, count: int
) -> dict[int, list[Event]]:
    """Return the events of `count` incidents by policy.

    Onsets are spread over up to eight minutes. Every second incident begins with the one
    before it, or while that is still going on.
    """
    events: dict[int, list[Event]] = {policy: [] for policy in range(len(layout.site))}
    begin = calendar.at(0.5)
    for number in range(1, count + 1):
        if number % 2:
            begin = calendar.at(float(random.uniform(0.08, 0.92)))
        elif random.random() < 0.5:
            begin += int(random.integers(40 * MINUTE, 90 * MINUTE))
        length = int(random.integers(75 * MINUTE, 5 * HOUR))
        spread = int(random.integers(MINUTE, 8 * MINUTE))
        kind = kind_of(number)
        for policy in _reach(random, kind, layout):
            machines = layout.machines[policy]
            rows = np.flatnonzero(random.random(machines) < _HIT[kind])
            onsets = begin + random.integers(0, spread, len(rows))
            ends = begin + length + random.integers(0, 10 * MINUTE, len(rows))
            events[policy] += [
                Event(row, start, end, _CAUSES[kind], incident=number)
                for row, start, end in zip(rows.tolist(), snap(onsets).tolist(),
                                           snap(ends).tolist(), strict=True)
            ]  # fmt: skip
    return events


def _reach(random: np.random.Generator, kind: str, layout: Layout) -> list[int]:
    """Return the policies that an incident of this kind can hit."""
    if kind == "network":
        return list(range(len(layout.site)))
    site = int(random.choice(sorted(set(layout.site))))
    at_site = [policy for policy, own in enumerate(layout.site) if own == site]
    if kind != "datastore":
        return at_site
    return sorted(random.choice(at_site, min(2, len(at_site)), replace=False).tolist())


def near_misses(random: np.random.Generator, calendar: Calendar, machines: int) -> Iterator[Event]:
    """Yield gaps of one policy that begin together and are not an incident.

    Every midnight some of its VMs fail at once, as where all sessions begin at 00:00, and
    others fail at full hours by chance.
    """
    midnights = np.arange(calendar.start - calendar.start % DAY + DAY, calendar.until, DAY)
    for midnight in midnights.tolist():
        for row in random.choice(machines, min(machines, int(random.poisson(3))), replace=False):
            yield _failure(random, int(row), midnight)
    days = (calendar.until - calendar.start) / DAY
    for _ in range(int(random.poisson(0.01 * machines * days))):
        hour = int(random.integers(calendar.start, calendar.until)) // HOUR * HOUR
        yield _failure(random, int(random.integers(machines)), hour)


def _failure(random: np.random.Generator, row: int, hour: int) -> Event:
    start = hour + int(random.integers(0, MINUTE))
    length = int(random.integers(20 * MINUTE, 3 * HOUR))
    begun, ended = snap(np.array([start, start + length], dtype=np.int64)).tolist()
    return Event(row, begun, ended, REASONS.index(FAILED_REASONS[0]))
