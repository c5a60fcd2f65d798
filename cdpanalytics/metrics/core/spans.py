"""The one sweep that finds who was covered when; everything about exposure goes through here.

It knows sessions as integers (codes and microseconds) and nothing of targets,
windows or groups' sums.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core.cores import RANGE, each
from cdpanalytics.metrics.core.uids import repeated
from cdpanalytics.schema import RESULTS, as_of_of

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

UNKNOWN = np.iinfo(np.int64).min
"""Microseconds of a time that is not there: NumPy's own NaT."""

MOST = np.iinfo(np.int64).max
"""Later than any time, more than any length."""

KEYS = ("backup_server", "policy", "vm")
"""What sessions can be grouped by."""

PROTECTS = ("Success", "Warning")
"""Verdicts that protect, unless said otherwise; running sessions always do."""

NO_VERDICT, SUCCESS, WARNING, FAILED = range(4)

_NEEDED = "; a session frame needs"


@dataclass(frozen=True)
class Labels:
    """A column of names as codes into its sorted names; -1 is no name."""

    codes: Integers
    names: pd.Index

    def at(self, rows: Integers) -> pd.Series:
        """Return the names at `rows` as a column of text, missing where there is none."""
        names = self.names.astype("str").array
        return pd.Series(names.take(self.codes[rows], allow_fill=True), dtype="str")


@dataclass(frozen=True)
class Hole:
    """A stretch never fetched, of one backup server (its code) or of all (None)."""

    server: int | None
    start: int
    stop: int


@dataclass(frozen=True)
class Records:
    """Sessions as integers, one position each, duplicates gone.

    Labels may be longer than the rest: what comes after `len(created)` was listed
    by a policy and has no session. Instants are microseconds since 1970 UTC. A session
    that runs is known to run until `runs_until`. `holes` are in order of their start.
    """

    frame: pd.DataFrame
    labels: dict[str, Labels]
    vm: Integers
    created: Integers
    ended: Integers
    verdict: NDArray[np.int8]
    running: Flags
    completed: Flags
    has_verdicts: bool
    rpo: Integers
    as_of: int
    runs_until: Integers
    holes: tuple[Hole, ...] = ()

    @cached_property
    def finished(self) -> Flags:
        """Completed with an end at or after the beginning."""
        return self.completed & (self.ended >= self.created)  # no end is before any beginning

    @cached_property
    def stop(self) -> Integers:
        """Where each span stops; UNKNOWN where a session has none."""
        has_span = self.running | self.finished
        stop = np.where(has_span, self.ended, UNKNOWN)
        endless = has_span & (stop == UNKNOWN)
        stop[endless] = self.runs_until[endless]
        return stop

    def at(self, rows: Integers) -> Records:
        """Return some of the records, by position; frame, labels and targets stay whole."""
        columns = ("vm", "created", "ended", "verdict", "running", "completed", "runs_until")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})

    def protecting(self, protects: Collection[str]) -> Flags:
        """Sessions that have a span and a verdict among `protects`, or none yet."""
        if not set(protects) <= set(RESULTS[1:]):
            raise InputError(
                f"protects={protects!r} names no verdicts; use some of {list(RESULTS[1:])}, as a list"
            )
        accepted = np.array([True, *(name in protects for name in RESULTS[1:])])
        return (self.stop != UNKNOWN) & (self.running | accepted[self.verdict])


@dataclass(frozen=True)
class Spans:
    """A row a protecting span, by VM and beginning; together they tile each VM's time.

    Position i owns ``[begin, finish)``, up to where the VM's next span begins or to
    as_of. Covered is ``[begin, min(reach, finish))``; what is left is its gap.
    `reach_strict` is the same where only Success and running sessions cover: it
    may lie before `begin`, and exposure is counted from it. `row` is the session's
    position in the records.
    """

    row: Integers
    vm: Integers
    begin: Integers
    finish: Integers
    reach: Integers
    reach_strict: Integers

    def at(self, cut: slice | Integers) -> Spans:
        """Return some of the spans."""
        return Spans(*(getattr(self, column.name)[cut] for column in fields(self)))


def read(
    sessions: pd.DataFrame,
    as_of: object = None,
    policies: pd.DataFrame | None = None,
    unobserved: pd.DataFrame | None = None,
) -> Records:
    """Return sessions as integers.

    Parameters
    ----------
    sessions : pandas.DataFrame
        Needs `vm`, `created`, `ended`; of the other columns of a session frame it
        uses what is there. Without `state`, a session with an end is Completed
        and one without is InProgress.
    as_of : timestamp-like, optional
        The instant the data speaks for. Default: what the frame was read as of, else the
        newest `as_of` in it, else its latest `created` or `ended`.
    policies : pandas.DataFrame, optional
        Settings, one or more rows a policy: RPO where a session has none, and the
        VMs that a policy names though no session does.
    unobserved : pandas.DataFrame, optional
        Stretches never fetched: ``start``, ``end``, and ``backup_server`` where one does
        not concern all of them.

    Returns
    -------
    Records

    Raises
    ------
    InputError
        When a needed column is missing or does not hold aware times.
    """
    require(sessions, ("vm", "created", "ended"), _NEEDED)
    frame = _unique(sessions)
    created, ended = instants(frame, "created"), instants(frame, "ended")
    if (created == UNKNOWN).any():
        row = int(np.flatnonzero(created == UNKNOWN)[0])
        raise InputError(
            f"session {row} has no 'created'; drop such rows (df.dropna(subset=['created']))"
        )
    now = known_until(frame, as_of)
    running = _running(frame, ended)
    completed = _completed(frame, running)
    verdict = _verdict(frame, completed, created, ended)
    listed = _listed(policies, frame)
    labels = {key: _labels(frame, listed, key) for key in KEYS}
    servers, names = labels["backup_server"], labels["vm"]
    vm, _ = numbered((servers.codes + 1) * (len(names.names) + 1) + names.codes + 1)
    holes = _holes(unobserved, servers)
    return Records(
        frame, labels, vm.astype(np.int64), created, ended, verdict, running, completed, "result" in frame,
        _targets(frame, labels, policies), now,
        _runs_until(frame, servers.codes[: len(frame)], now, holes), holes,
    )  # fmt: skip


def sweep(records: Records, protects: Collection[str] = PROTECTS) -> Spans:
    """Return each VM's protecting spans in order, with how far cover reaches after each.

    Parameters
    ----------
    records : Records
    protects : collection of str
        Verdicts that protect; running sessions always do.

    Returns
    -------
    Spans
        Empty spans and those that begin at or after as_of cover nothing and are left out.
    """
    found = each(lambda rows: _swept(records, protects, rows), by_vm(records))
    return Spans(*map(np.concatenate, zip(*found, strict=True)))


def by_vm(records: Records) -> list[Integers]:
    """Return the positions of records, VM after VM, cut between VMs into ranges that a core likes."""
    vm = records.vm[: len(records.created)]
    order = np.argsort(vm.astype(np.min_scalar_type(vm.max(initial=0))), kind="stable")
    ends = np.cumsum(np.bincount(vm))
    edges = ends[np.flatnonzero(np.diff(ends // RANGE, prepend=0))]
    return np.split(order, edges[edges < len(order)])


def _swept(records: Records, protects: Collection[str], rows: Integers) -> tuple[Integers, ...]:
    """The columns of `Spans` of some VMs' sessions."""
    mine = records.at(rows)
    stop = np.minimum(mine.stop, mine.as_of)
    covers = mine.protecting(protects) & (stop > mine.created)
    policy = records.labels["policy"].codes
    # Of spans begun together the longest owns the time, then the last policy by name, then the
    # smallest target (no target, the least integer, stays the least when negated).
    order = in_order(
        mine.vm, mine.created,
        lambda tied: (stop[tied], policy[rows[tied]], -records.rpo[rows[tied]]),
    )  # fmt: skip
    row = order[covers[order]]
    begin, stop, vm = mine.created[row], stop[row], mine.vm[row]
    first = np.ones(len(row), dtype=bool)
    first[1:] = vm[1:] != vm[:-1]
    finish = np.full(len(row), mine.as_of, dtype=np.int64)
    finish[:-1] = np.where(first[1:], mine.as_of, begin[1:])
    strict = (mine.verdict[row] == SUCCESS) | mine.running[row]
    # Where none covers strictly yet, exposure counts from the VM's first beginning.
    stop_strict = np.where(strict, stop, begin.min(initial=mine.as_of))
    stop_strict[first] = np.maximum(stop_strict[first], begin[first])
    reach, reach_strict = running_maximum(stop, vm), running_maximum(stop_strict, vm)
    return rows[row], vm, begin, finish, reach, reach_strict


def in_order(
    vm: Integers,
    time: Integers,
    ties: Callable[[Integers], Sequence[NDArray[Any]]] = lambda tied: (),
) -> Integers:
    """Return the positions of rows by VM, then time, then what `ties` says of those it is given.

    Archives are nearly in order of time within each VM, and ties are few: so this is one
    stable sort of small numbers, which NumPy does by radix, one of what that leaves, which
    is soon done, and a slow one of the ties alone.
    """
    keys = keyed(vm, time)
    order, ordered = np.arange(len(keys)), keys
    if not _rise(ordered):
        order = np.argsort(vm.astype(np.min_scalar_type(vm.max(initial=0))), kind="stable")
        ordered = keys[order]
    if not _rise(ordered):
        rest = np.argsort(ordered, kind="stable")
        order, ordered = order[rest], ordered[rest]
    tied = np.zeros(len(keys) + 1, dtype=bool)
    tied[1:-1] = ordered[1:] == ordered[:-1]
    tied = np.flatnonzero(tied[1:] | tied[:-1])
    if len(tied):
        rows = order[tied]
        order[tied] = rows[np.lexsort((*reversed(ties(rows)), ordered[tied]))]
    return order


def _rise(keys: Integers) -> bool:
    return not (keys[1:] < keys[:-1]).any()


def keyed(vm: Integers, time: Integers) -> Integers:
    """Return a number for each VM and time; they are in order as those are."""
    if not len(vm):
        return vm
    low, width = int(time.min()), int(time.max()) - int(time.min()) + 1
    if width * (int(vm.max()) + 1) > MOST:
        times, time = np.unique(time, return_inverse=True)
        low, width = 0, len(times)
    keys = vm * width
    keys += time
    keys -= low
    return keys


def numbered(codes: Integers) -> tuple[NDArray[np.integer], Integers]:
    """Return each code's rank among the distinct ones, in as few bytes as it needs, and these."""
    size = int(codes.max(initial=0)) + 1
    if size > 8 * len(codes) + 1024:
        values, rank = np.unique(codes, return_inverse=True)
        return rank, values
    there = np.zeros(size, dtype=bool)
    there[codes] = True
    values = np.flatnonzero(there)
    rank = np.cumsum(there) - 1
    return rank.astype(np.min_scalar_type(len(values)))[codes], values


def unseen(records: Records, spans: Spans) -> list[tuple[Integers, Integers]]:
    """Return what each span's VM was not observed in: a start and a stop a span, for each hole.

    What begins inside a hole is not known. So a VM is observed again at the hole's end
    where a protecting span begun by then reaches beyond it, else when its next session
    of any verdict begins, else never. Stretches of one VM are in order and do not
    overlap; an empty one starts where it stops.
    """
    if not records.holes or not len(spans.row):
        return []
    low, high = int(spans.begin.min()), records.as_of
    vms, machine = np.unique(spans.vm, return_inverse=True)
    first = np.searchsorted(spans.vm, vms, side="left")
    server = records.labels["backup_server"].codes[spans.row[first]]
    order = in_order(records.vm[: len(records.created)], records.created)
    session_vm, begun = records.vm[order], records.created[order]
    reached, found = np.full(len(vms), low), []
    for hole in records.holes:
        end = np.full(len(vms), hole.stop)
        span_at = last_before(spans.vm, spans.begin, vms, end + 1)
        safe = np.maximum(span_at, 0)
        covered = (span_at >= 0) & (spans.vm[safe] == vms) & (spans.reach[safe] > hole.stop)
        after = last_before(session_vm, begun, vms, end) + 1
        safe = np.minimum(after, len(begun) - 1)
        again = np.where((after < len(begun)) & (session_vm[safe] == vms), begun[safe], high)
        mine = (server == hole.server) | (hole.server is None)
        stop = np.clip(np.where(covered, hole.stop, again), low, max(high, low))
        stop = np.where(mine, np.maximum(stop, reached), reached)
        start = np.clip(hole.start, reached, stop)
        reached = stop
        found.append((start[machine], stop[machine]))
    return found


def last_before(vms: Integers, created: Integers, vm: Integers, end: Integers) -> Integers:
    """Position of the last of (vms, created), sorted, that lies before (vm, end); -1 with none."""
    keys = keyed(np.concatenate([vms, vm]), np.concatenate([created, end]))
    return np.searchsorted(keys[: len(vms)], keys[len(vms) :]) - 1


def running_maximum(values: Integers, segment: Integers) -> Integers:
    """Return the running maximum of `values`, begun anew in each segment (0, 0, 1, 3, 3, ...)."""
    if not len(values):
        return values
    low = values.min()
    width = values.max() - low + 1
    if int(width) * (int(segment[-1]) + 1) < 2**62:
        lift = segment * width
        lift -= low
        highest = values + lift
        np.maximum.accumulate(highest, out=highest)
        highest -= lift
        return highest
    grouped = pd.Series(values).groupby(segment)
    return np.asarray(grouped.cummax(), dtype=np.int64)


def instants(frame: pd.DataFrame, column: str) -> Integers:
    """Return a column of aware times as microseconds since 1970 UTC, UNKNOWN where missing."""
    values = frame[column]
    if isinstance(values.dtype, pd.ArrowDtype) and getattr(values.dtype.pyarrow_dtype, "tz", None):
        values = values.astype("datetime64[us, UTC]")
    if not isinstance(values.dtype, pd.DatetimeTZDtype):
        if len(values) == 0 or values.isna().all():
            return np.full(len(values), UNKNOWN, dtype=np.int64)
        raise InputError(
            f"column {column!r} holds {values.dtype}, not times with a zone; "
            f"convert it: df[{column!r}] = pd.to_datetime(df[{column!r}], utc=True)"
        )
    if values.dtype.unit != "us":
        values = values.dt.as_unit("us")
    return values.to_numpy(dtype="M8[us]").view(np.int64)


def microseconds(value: object, name: str) -> int:
    """Return one instant as microseconds since 1970 UTC; text without a zone is UTC."""
    try:
        # A bare number would be read as nanoseconds since 1970.
        stamp = pd.Timestamp(None if isinstance(value, Number) else value)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        raise InputError(
            f"{name}={value!r} is not a time; write it like 2026-10-01 or 2026-10-01T08:00Z"
        ) from None
    if pd.isna(stamp):
        seen = f"={value!r} is not a time" if isinstance(value, Number) else " is missing"
        raise InputError(f"{name}{seen}; write it like 2026-10-01 or 2026-10-01T08:00Z")
    stamp = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
    return int(stamp.to_datetime64().astype("M8[us]").astype(np.int64))


def stamp(instant: int) -> pd.Timestamp:
    """Return microseconds since 1970 UTC as an instant."""
    return pd.Timestamp(instant, unit="us", tz="UTC").as_unit("us")


def span(value: object, name: str) -> int:
    """Return one length of time (Timedelta or text like "15min") as microseconds."""
    # A number without a unit would be read as nanoseconds, "15" like 15.
    bare = isinstance(value, Number) or (isinstance(value, str) and _is_number(value))
    try:
        length = pd.Timedelta(None if bare else value)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        length = pd.NaT  # type: ignore[assignment]
    if pd.isna(length) or length < pd.Timedelta(0):
        raise InputError(
            f"{name}={value!r} is not a length of time; write it like 30s, 15min or 1h"
        )
    return int(length.to_timedelta64().astype("m8[us]").astype(np.int64))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def require(frame: pd.DataFrame, columns: Sequence[str], told: str) -> None:
    """Refuse a frame that lacks one of `columns`; `told` leads over to those it needs."""
    for column in columns:
        if column not in frame:
            has = ", ".join(map(str, frame.columns)) or "no columns"
            raise InputError(f"no column {column!r}{told} {', '.join(columns)} (has: {has})")


def amounts(frame: pd.DataFrame) -> pd.Series:
    """Return `total_size` as whole bytes, missing where it is.

    Raises
    ------
    InputError
        When it holds text, or parts of a byte.
    """
    column = frame["total_size"]
    if not column.notna().any():
        return pd.Series(pd.NA, index=column.index, dtype="Int64")
    if pd.api.types.is_bool_dtype(column) or not pd.api.types.is_numeric_dtype(column):
        raise InputError(
            f"column 'total_size' holds {column.dtype}, not bytes; "
            "convert it: df['total_size'] = pd.to_numeric(df['total_size'])"
        )
    try:
        return column.astype("Int64")
    except (TypeError, ValueError, ArithmeticError):
        raise InputError(
            "column 'total_size' holds parts of a byte; "
            "convert it: df['total_size'] = df['total_size'].round().astype('Int64')"
        ) from None


def _unique(frame: pd.DataFrame) -> pd.DataFrame:
    """Of rows with one uid keep the newest `as_of`, or the last where that is unknown."""
    frame = frame.reset_index(drop=True)
    again = repeated(frame["uid"]) if "uid" in frame else None
    if again is None or not len(again):
        return frame
    told = frame.iloc[again]
    if "as_of" in frame:
        told = told.iloc[np.argsort(instants(told, "as_of"), kind="stable")]
    older = told.index[told["uid"].duplicated(keep="last")]
    return frame.drop(older).reset_index(drop=True)


def known_until(frame: pd.DataFrame, given: object = None) -> int:
    """Return the instant that sessions speak for: as given, else as `read` finds it."""
    told = as_of_of(frame) if given is None else given
    if told is not None:
        return microseconds(told, "as_of")
    if "as_of" in frame:
        stamped = instants(frame, "as_of")
        if (stamped != UNKNOWN).any():
            return int(stamped.max())
    require(frame, ("vm", "created", "ended"), _NEEDED)
    ends = (instants(frame, column) for column in ("created", "ended"))
    return int(max(end.max() for end in ends)) if len(frame) else 0


def _holes(unobserved: pd.DataFrame | None, servers: Labels) -> tuple[Hole, ...]:
    """Read stretches never fetched; those of a backup server that has no session are left out."""
    if unobserved is None or not len(unobserved):
        return ()
    require(unobserved, ("start", "end"), " in unobserved; it needs")
    start, stop = instants(unobserved, "start"), instants(unobserved, "end")
    if (start == UNKNOWN).any() or (stop == UNKNOWN).any():
        raise InputError("unobserved has a row without start or end; drop it, or fill it in")
    named = pd.Series([None] * len(unobserved), dtype="str")
    if "backup_server" in unobserved:
        named = unobserved["backup_server"].astype("str").reset_index(drop=True)
    codes = servers.names.astype("str").get_indexer(pd.Index(named.fillna("")))
    everyone = named.isna().to_numpy()
    holes = [
        Hole(None if all_of else int(code), int(first), int(last))
        for all_of, code, first, last in zip(everyone, codes, start, stop, strict=True)
        if first < last and (all_of or code >= 0)
    ]
    return tuple(sorted(set(holes), key=lambda hole: (hole.start, hole.stop)))


def _runs_until(
    frame: pd.DataFrame, server: Integers, as_of: int, holes: tuple[Hole, ...]
) -> Integers:
    """Until when each session is known to run, if it does: to as_of, but into no hole."""
    until = np.broadcast_to(np.int64(as_of), len(frame))
    if not holes:
        return until
    stamped = instants(frame, "as_of") if "as_of" in frame else np.full(len(frame), UNKNOWN)
    told = np.where(stamped == UNKNOWN, as_of, stamped)
    for hole in reversed(holes):
        cut = ((server == hole.server) | (hole.server is None)) & (told < hole.stop)
        until = np.where(cut, np.minimum(as_of, np.maximum(told, hole.start)), until)
    return until


def _running(frame: pd.DataFrame, ended: Integers) -> Flags:
    """Sessions neither Completed nor Pending; without states, those with no end."""
    if "state" not in frame:
        return np.asarray(ended == UNKNOWN)
    return frame["state"].eq("InProgress").fillna(False).to_numpy(dtype=bool)


def _completed(frame: pd.DataFrame, running: Flags) -> Flags:
    """Sessions whose state says Completed; without states, those that do not run."""
    if "state" not in frame:
        return ~running
    return frame["state"].eq("Completed").fillna(False).to_numpy(dtype=bool)


def _verdict(
    frame: pd.DataFrame, completed: Flags, created: Integers, ended: Integers
) -> NDArray[np.int8]:
    """The Result of a Completed session that has an end; before that a result says nothing."""
    if "result" not in frame:
        return np.zeros(len(frame), dtype=np.int8)
    words = pd.Categorical(frame["result"])
    place = pd.Index(RESULTS, dtype="str").get_indexer(words.categories.astype("str"))
    codes = np.append(np.maximum(place, NO_VERDICT), NO_VERDICT).astype(np.int8)[words.codes]
    codes[~(completed & (ended >= created))] = NO_VERDICT  # no end is before any beginning
    return codes


def _listed(policies: pd.DataFrame | None, frame: pd.DataFrame) -> pd.DataFrame:
    """VMs that a policy names in its newest settings: rows of backup_server, policy, vm."""
    if policies is None or "vms" not in policies:
        return pd.DataFrame({key: pd.Series(dtype="str") for key in KEYS})
    columns = [key for key in ("backup_server", "policy") if key in policies]
    same = ["policy_uid"] if "policy_uid" in policies else columns
    newest = _in_time(policies).drop_duplicates(same, keep="last") if same else policies
    named = newest[[*columns, "vms"]].explode("vms").rename(columns={"vms": "vm"})
    named = named.dropna(subset=["vm"]).drop_duplicates(ignore_index=True)
    return (
        named if "backup_server" in frame else named.drop(columns="backup_server", errors="ignore")
    )


def _in_time(policies: pd.DataFrame) -> pd.DataFrame:
    return policies.sort_values("seen_from", kind="stable") if "seen_from" in policies else policies


def _labels(frame: pd.DataFrame, listed: pd.DataFrame, key: str) -> Labels:
    column = frame[key] if key in frame else pd.Series([None] * len(frame), dtype="str")
    extra = listed[key] if key in listed else pd.Series([None] * len(listed), dtype="str")
    known = pd.Categorical(column)
    more = pd.Categorical(extra)
    names = (
        known.categories.astype("str").union(more.categories.astype("str")).unique().sort_values()
    )
    codes = _recode(known, names)
    return Labels(np.concatenate([codes, _recode(more, names)]) if len(more) else codes, names)


def _recode(column: pd.Categorical, names: pd.Index) -> Integers:
    """Codes into `names` instead; -1, no name, is the place after the last category's."""
    place = names.get_indexer(column.categories.astype("str"))
    return np.append(place, -1).astype(np.int64, copy=False)[column.codes]


def _targets(
    frame: pd.DataFrame, labels: dict[str, Labels], policies: pd.DataFrame | None
) -> Integers:
    """Each session's own RPO, else its policy's newest one, in microseconds; UNKNOWN without."""
    rpo = np.full(len(frame), UNKNOWN, dtype=np.int64)
    if "rpo" in frame:
        rpo = spans_of(frame["rpo"])
    if not (rpo == UNKNOWN).any():
        return rpo
    policy, newest = _setting(labels, len(frame), policies, "rpo")
    return np.where(rpo == UNKNOWN, spans_of(newest)[policy], rpo)


def spans_of(values: pd.Series) -> Integers:
    """Return a column `rpo` in microseconds, UNKNOWN where there is none.

    Raises
    ------
    InputError
        When it holds numbers, instants or words, not lengths of time.
    """
    if values.isna().all():
        return np.full(len(values), UNKNOWN, dtype=np.int64)
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_datetime64_any_dtype(values):
        raise InputError(
            f"column 'rpo' holds {values.dtype}, not lengths of time; "
            "convert it: df['rpo'] = pd.to_timedelta(df['rpo'], unit='s')"
        )
    return pd.to_timedelta(values).dt.as_unit("us").to_numpy(dtype="m8[us]").view(np.int64)


def setting(
    records: Records, policies: pd.DataFrame | None, column: str
) -> tuple[NDArray[np.integer], pd.Series]:
    """Return each session's policy as a number, and their newest `column`, missing if not known.

    A policy is known by its backup server and name, or by its name alone where
    either side does not say the server.
    """
    return _setting(records.labels, len(records.created), policies, column)


def _setting(
    labels: dict[str, Labels], count: int, policies: pd.DataFrame | None, column: str
) -> tuple[NDArray[np.integer], pd.Series]:
    if policies is None:
        return np.zeros(count, dtype=np.uint8), pd.Series([None], dtype=object)
    server, policy = (labels[key].codes[:count] for key in ("backup_server", "policy"))
    many = len(labels["policy"].names) + 1
    number, pairs = numbered((server + 1) * many + policy + 1)
    known = {"backup_server": pairs // many - 1, "policy": pairs % many - 1}
    own = {
        key: Labels(codes, labels[key].names).at(np.arange(len(pairs)))
        for key, codes in known.items()
        if key == "policy" or len(labels[key].names)
    }
    return number, newest_setting(pd.DataFrame(own), policies, column)


def newest_setting(own: pd.DataFrame, policies: pd.DataFrame | None, column: str) -> pd.Series:
    """Return for rows of `policy`, and `backup_server` where it is known, their newest `column`."""
    if policies is None or column not in policies or "policy" not in policies:
        return pd.Series(
            [None] * len(own),
            dtype=object if policies is None or column not in policies else policies[column].dtype,
        )
    keys = [key for key in own if key in policies]
    known = _in_time(policies).dropna(subset=[column])
    newest = known.drop_duplicates(keys, keep="last")[[*keys, column]]
    return own.merge(newest.astype(dict.fromkeys(keys, "str")), on=keys, how="left")[column]


def spread(first: Integers, number: Integers) -> tuple[Integers, Integers]:
    """Return for each item, `number` times, its position, and `first`, `first` + 1, and so on."""
    item = np.repeat(np.arange(len(first)), number)
    before = np.cumsum(number) - number
    return item, np.arange(len(item)) + (first - before)[item]
