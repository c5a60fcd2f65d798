"""One policy's task sessions: regular ones first, then what befalls them; gaps are noted as they are planted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .instants import DAY, HOUR, MINUTE, SECOND, snap

Integers = NDArray[np.int64]

SUCCESS, WARNING, FAILED = 1, 2, 3
NO_REASON = -1

_WARNING_REASONS = (
    "RPO threshold has been exceeded: the last short-term restore point is older than expected",
    "Processing finished with warnings.\nDetails: not enough bandwidth between source & target CDP proxies",
    'Changed block tracking was reset: disk "Hard disk 2" has been read in full',
)
FAILED_REASONS = (
    "Failed to create a long-term restore point. Error: The source host's I/O filter is not responding",
    "CDP proxy <primary> is unavailable: connection was closed by the remote host",
    "Target datastore is low on space",
)
STORAGE_REASON = "Storage is unavailable: all paths to the target datastore are down"
REASONS = (*_WARNING_REASONS, *FAILED_REASONS, STORAGE_REASON)

_FAILED_CAUSES = range(len(_WARNING_REASONS), len(REASONS) - 1)
_STORAGE_CAUSE = len(REASONS) - 1
_SHORTEST = 90 * SECOND


class Plan(NamedTuple):
    """The settings a policy takes from the catalogue, and its share of the VMs."""

    name: str
    rpo: timedelta
    long_term_hours: int
    short_term: timedelta
    share: int
    forbidden: bool = False


class Calendar(NamedTuple):
    """The instants that bound a generation, in milliseconds."""

    start: int
    until: int
    end: int

    def at(self, share: float) -> int:
        """The instant at this share of the way from the start to the present."""
        return self.start + int((self.until - self.start) * share)


class Cast(NamedTuple):
    """The VMs that play a part, by number (-1: no VM does, because the fleet is too small)."""

    unfinished: int
    failing: int
    absent: int
    late: int
    never: int


class Event(NamedTuple):
    """What befalls a VM: a stretch without protection, or (`whole`) one session of it that fails from end to end.

    Only a `lasting` one may still be going at the fleet's present.
    """

    row: int
    start: int
    end: int
    cause: int
    whole: bool = False
    lasting: bool = False
    incident: int = -1


class Gap(NamedTuple):
    """A planted gap of the VM in this row; `cause` counts in `REASONS`, `incident` is -1 where it is of none."""

    row: int
    start: int
    end: int
    cause: int
    incident: int = -1


class Sessions(NamedTuple):
    """Finished columns: `row` counts a policy's VMs, `renewal` its policy sessions."""

    row: NDArray[np.int64]
    renewal: Integers
    created: Integers
    ended: Integers
    result: Integers
    reason: Integers


@dataclass(slots=True)
class Draft:
    """A policy's sessions while they are being made: one row per VM, one column per restore point."""

    renewed: Integers
    created: Integers
    ended: Integers
    result: Integers
    reason: Integers
    alive: NDArray[np.bool_]
    taken: NDArray[np.bool_]
    extra: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    quiet: int | None = None

    @property
    def machines(self) -> int:
        """How many VMs the policy includes."""
        return len(self.created)


def draft(random: np.random.Generator, calendar: Calendar, plan: Plan, machines: int) -> Draft:
    """Regular sessions: each VM from one long-term restore point to the next, handed over within a second or so."""
    anchor = calendar.start + int(random.integers(min(DAY, (calendar.until - calendar.start) // 8)))
    days = -(-(calendar.end - anchor) // DAY)
    daily = 24 // plan.long_term_hours
    renewed = snap(anchor + np.arange(days + 1) * DAY + random.integers(0, MINUTE, days + 1))
    columns = days * daily + 1
    point = anchor + np.arange(columns) * plan.long_term_hours * HOUR + 2 * SECOND
    created = point + random.integers(0, 30 * SECOND, (machines, columns))
    created[:, ::daily] = renewed + random.integers(20, 2 * SECOND, (machines, days + 1))
    created = snap(created)
    shape = (machines, columns - 1)
    handover = np.where(
        random.random(shape) < 0.01,
        -random.integers(SECOND, 5 * SECOND, shape),
        random.integers(3, SECOND, shape),
    )
    troubled = np.where(random.random(machines) < 0.05, 0.15, 0.015)
    warned = random.random(shape) < troubled[:, None]
    return Draft(
        renewed=renewed,
        created=created[:, :-1],
        ended=snap(created[:, 1:] - handover),
        result=np.where(warned, WARNING, SUCCESS),
        reason=np.where(warned, random.integers(0, len(_WARNING_REASONS), shape), NO_REASON),
        alive=np.ones(shape, dtype=np.bool_),
        taken=np.zeros(shape, dtype=np.bool_),
    )


def silence(made: Draft, number: int) -> None:
    """Keep the policy session of this number free of trouble: all its task sessions succeed."""
    columns = made.created.shape[1] // (len(made.renewed) - 1)
    day = slice(number * columns, (number + 1) * columns)
    made.result[:, day], made.reason[:, day], made.taken[:, day] = SUCCESS, NO_REASON, True
    made.quiet = number


def befall(
    random: np.random.Generator,
    calendar: Calendar,
    made: Draft,
    cast: Cast,
    *,
    incident: bool,
    planned: Sequence[Event] = (),
) -> None:
    """Plant everything that goes wrong for this policy's VMs (`cast` by row), `planned` first.

    Where two events collide the one that was planted first stays.
    """
    for row, since in ((cast.never, calendar.end), (cast.late, calendar.at(0.45))):
        if 0 <= row < made.machines:
            made.alive[row, made.created[row] < since] = False
    for event in (*planned, *_events(random, calendar, made.machines, cast, incident)):
        if 0 <= event.row < made.machines:
            _plant(made, calendar.until - HOUR, event)


def finish(made: Draft) -> Sessions:
    """All sessions of the policy in columns."""
    rows, columns = np.nonzero(made.alive)
    extra = np.array(made.extra, dtype=np.int64).reshape(-1, 5)
    regular = (
        rows,
        *(part[rows, columns] for part in (made.created, made.ended, made.result, made.reason)),
    )
    row, created, ended, result, reason = (
        np.concatenate(pair) for pair in zip(regular, extra.T, strict=True)
    )
    renewal = np.searchsorted(made.renewed, created, "right") - 1
    return Sessions(row, renewal, created, ended, result, reason)


def _events(
    random: np.random.Generator, calendar: Calendar, machines: int, cast: Cast, incident: bool
) -> Iterator[Event]:
    away = min(9 * HOUR, (calendar.until - calendar.start) // 4)
    yield _event(
        cast.unfinished, calendar.until - away, calendar.until + 26 * HOUR, NO_REASON
    )._replace(lasting=True)
    if calendar.until - calendar.start >= 7 * DAY:
        yield _event(
            cast.absent, calendar.at(0.2), calendar.at(0.2) + 2 * DAY + 7 * HOUR, NO_REASON
        )
    if incident:
        yield from _incident(random, calendar, machines)
    for start in range(calendar.at(0.1), calendar.until, 2 * DAY):
        yield _event(
            cast.failing,
            start,
            start + int(random.integers(20 * MINUTE, 8 * HOUR)),
            _FAILED_CAUSES[0],
        )
    yield from _mishaps(random, calendar, machines)


def _incident(random: np.random.Generator, calendar: Calendar, machines: int) -> Iterator[Event]:
    starts = calendar.at(0.6) + random.integers(0, 90 * SECOND, machines)
    ends = calendar.at(0.6) + 95 * MINUTE + random.integers(0, 10 * MINUTE, machines)
    for row, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        yield _event(row, start, end, _STORAGE_CAUSE)._replace(incident=0)


def _mishaps(random: np.random.Generator, calendar: Calendar, machines: int) -> Iterator[Event]:
    days = (calendar.until - calendar.start) / DAY
    count = int(random.poisson(0.008 * machines * days))
    rows = random.integers(machines, size=count)
    starts = random.integers(calendar.start, calendar.until, count)
    lengths = np.clip(np.exp(random.normal(3.2, 1.6, count)), 2, 3 * 24 * 60) * MINUTE
    causes = random.choice([NO_REASON, NO_REASON, *_FAILED_CAUSES], count)
    for row, start, length, cause in zip(
        rows.tolist(), starts.tolist(), lengths.tolist(), causes.tolist(), strict=True
    ):
        yield _event(row, start, start + int(length), cause)
    for row, start in zip(rows[::4].tolist(), starts[::-4].tolist(), strict=False):
        yield Event(row, start, start, _FAILED_CAUSES[1], whole=True)


def _event(row: int, start: int, end: int, cause: int) -> Event:
    start, end = snap(np.array([start, end], dtype=np.int64)).tolist()
    return Event(row, start, end, cause)


def _plant(made: Draft, latest: int, event: Event) -> None:
    created = made.created[event.row]
    first, last = (
        int(np.searchsorted(created, instant, "right")) - 1 for instant in (event.start, event.end)
    )
    around = slice(max(first - 1, 0), last + 2)
    if first < event.whole or last + 2 > len(created) or made.taken[event.row, around].any():
        return
    if not made.alive[event.row, around].all():
        return
    gap = _failure(made, event, first) if event.whole else _interruption(made, event, first, last)
    if gap.end - gap.start < _SHORTEST or (gap.end > latest and not event.lasting):
        return
    made.taken[event.row, first : last + 1] = True
    made.gaps.append(gap)
    if event.whole:
        made.result[event.row, first], made.reason[event.row, first] = FAILED, event.cause
    else:
        _interrupt(made, gap, first, last)


def _failure(made: Draft, event: Event, column: int) -> Gap:
    return Gap(
        event.row,
        int(made.ended[event.row, column - 1]),
        int(made.created[event.row, column + 1]),
        event.cause,
        event.incident,
    )


def _interruption(made: Draft, event: Event, first: int, last: int) -> Gap:
    start = max(event.start, int(made.created[event.row, first]) + MINUTE)
    too_late = event.end > made.ended[event.row, last] - MINUTE
    end = int(made.created[event.row, last + 1]) if too_late else event.end
    start = min(start, int(made.ended[event.row, first]))
    return Gap(event.row, start, end, event.cause, event.incident)


def _interrupt(made: Draft, gap: Gap, first: int, last: int) -> None:
    row, start, end, cause, _ = gap
    if end < made.created[row, last + 1]:
        made.extra.append((row, end, int(made.ended[row, last]), SUCCESS, NO_REASON))
    made.ended[row, first] = start
    made.alive[row, first + 1 : last + 1] = False
    if cause != NO_REASON:
        made.extra.extend(_attempts(gap))


def _attempts(gap: Gap) -> Iterator[tuple[int, int, int, int, int]]:
    row, start, end, cause, _ = gap
    count = max(1, min(8, (end - start) // (20 * MINUTE)))
    edges = np.linspace(start, end, count + 1).astype(np.int64)
    begun, ended = snap(edges[:-1] + 400), snap(edges[1:] - 3 * SECOND)
    for created, finished in zip(begun.tolist(), ended.tolist(), strict=True):
        yield row, created, finished, FAILED, cause
