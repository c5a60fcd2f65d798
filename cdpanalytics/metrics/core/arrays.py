"""Read a frame of sessions into integer arrays: codes for names, microseconds for times."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cdpanalytics.errors import InputError
from cdpanalytics.metrics.core import policies as settings
from cdpanalytics.metrics.core.codes import Codes, codes_of, common_codes
from cdpanalytics.metrics.core.frames import NO_FACTS, Facts
from cdpanalytics.metrics.core.kernels import (
    Flags,
    Integers,
    compact_codes,
    duplicated_positions,
)
from cdpanalytics.metrics.core.values import (
    UNKNOWN,
    durations_of,
    instants,
    require,
    timestamp,
    us_of,
)
from cdpanalytics.schema import KEYS, RESULTS, SESSIONS

T = TypeVar("T")

NO_VERDICT, SUCCESS, WARNING, FAILED = range(4)

NEEDED = ("vm", "created", "ended")
_PURPOSE = "; a session frame needs"


_KEPT = 4
"""Frames that are kept: of the window, of the one around it, of its end, and of the period before."""

_KEPT_ROWS = 2_000_000
"""Larger frames are read each time: their arrays would take memory while other metrics need it."""

Kept = dict[tuple[Any, ...], tuple[Any, ...]]
_KEEPER: ContextVar[Kept | None] = ContextVar("kept arrays", default=None)


@contextmanager
def keeping(arrays: Kept | None) -> Iterator[None]:
    """Read each frame once inside this context: what `read` returns is kept in `arrays`.

    Only for frames that nothing changes in place: they are known by their identity.
    """
    token = _KEEPER.set(arrays)
    try:
        yield
    finally:
        _KEEPER.reset(token)


@dataclass(frozen=True)
class Hole:
    """A stretch that was never fetched, of one backup server (its code) or of all (None)."""

    server: int | None
    start: int
    stop: int


@dataclass(frozen=True)
class SessionArrays:
    """Sessions as integers, one position each, duplicates removed.

    What is there is as known at `as_of`: a session that ended later runs, and one that begins
    then or later has neither span nor verdict and is not an attempt.

    Codes may be longer than the other arrays: the positions after `len(created)` are VMs
    that a policy lists. Instants are microseconds since 1970 UTC. A session that is still
    running is known to run until `runs_until`. `holes` are in order of their start.
    """

    frame: pd.DataFrame
    listed: pd.DataFrame
    keys: dict[str, Codes]
    vm: Integers
    created: Integers
    ended: Integers
    verdict: NDArray[np.int8]
    running: Flags
    completed: Flags
    attempt: Flags
    has_verdicts: bool
    policies: pd.DataFrame | None
    rpo: Integers
    as_of: int
    runs_until: Integers
    holes: tuple[Hole, ...] = ()
    facts: Facts = NO_FACTS
    kept: dict[Hashable, Any] = field(default_factory=dict, compare=False)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` returns of these arrays; under one key it is called once."""
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]

    def codes(self, column: str) -> Codes:
        """Return any column of the frame as codes, those of listed VMs after those of sessions.

        Raises
        ------
        InputError
            When the frame has no such column, or rows of one uid differ in it.
        """
        if column in self.keys:
            return self.keys[column]
        if column not in self.frame:
            raise unknown_column(column, self.frame)
        return self.once(
            ("codes", column),
            lambda: common_codes(self.frame[column], _column(self.listed, column)),
        )

    @cached_property
    def finished(self) -> Flags:
        """Completed with an end at or after the beginning."""
        return self.completed & (self.ended >= self.created)  # a missing end is the least integer

    @cached_property
    def stop(self) -> Integers:
        """Where each span stops; UNKNOWN where a session has none."""
        has_span = self.running | self.finished
        stop = np.where(has_span, self.ended, UNKNOWN)
        endless = has_span & (stop == UNKNOWN)
        stop[endless] = self.runs_until[endless]
        return stop

    def setting(self, column: str, at: int | None = None) -> tuple[Integers, pd.Series]:
        """Return each session's policy as a number, and each policy's `column`, NA if unknown.

        It is the newest setting, or the newest that was known at the instant `at`.
        """
        count = len(self.created)
        if self.policies is None:
            return np.zeros(count, dtype=np.int64), pd.Series([None], dtype=object)
        number, names = self.once("policies", lambda: settings.numbered(self.keys, count))

        def newest() -> pd.Series:
            known = self.policies if at is None else settings.known_at(self.policies, timestamp(at))
            return settings.newest_setting(names, known, column)

        return number, self.once(("setting", column, at), newest)

    def at(self, rows: Integers) -> SessionArrays:
        """Return some of the sessions, by position; frame, codes and targets stay whole."""
        columns = (
            "vm", "created", "ended", "verdict", "running", "completed", "attempt", "runs_until"
        )  # fmt: skip
        return replace(self, kept={}, **{name: getattr(self, name)[rows] for name in columns})

    def protecting(self, protects: Collection[str]) -> Flags:
        """Sessions that have a span and a verdict among `protects`, or none yet."""
        accepted = np.array([True, *(name in protects for name in RESULTS[1:])])
        return (self.stop != UNKNOWN) & (self.running | accepted[self.verdict])


def unknown_column(column: str, frame: pd.DataFrame) -> InputError:
    """Return the error for a `by` that names no column of the frame."""
    has = ", ".join(
        str(name) for name in frame.columns if name not in SESSIONS.names or name in KEYS
    )
    return InputError(
        f"by={column!r} is not a column of the sessions; use {', '.join(KEYS)}, any column of the "
        f"frame (has: {has}), several of them, or ()"
    )


def read(
    sessions: pd.DataFrame,
    as_of: int,
    policies: pd.DataFrame | None = None,
    unobserved: pd.DataFrame | None = None,
    by: Sequence[str] = (),
    facts: Facts = NO_FACTS,
    known_until: int | None = None,
    named_until: pd.Timestamp | None = None,
) -> SessionArrays:
    """Return sessions as integers.

    Parameters
    ----------
    sessions : pandas.DataFrame
        Needs `vm`, `created`, `ended`; of the other columns of a session frame it
        uses those that exist. Without `state`, a session with an end is Completed
        and one without is InProgress.
    as_of : int
        Nothing after it is measured (`as_of_frame`).
    policies : pandas.DataFrame, optional
        Settings, one or more rows per policy: RPO where a session has none, and the
        VMs that a policy names though no session does.
    unobserved : pandas.DataFrame, optional
        Stretches never fetched: ``start``, ``end``, and ``backup_server`` where a stretch
        does not concern all of them.
    by : sequence of str
        Columns to group by; rows of one uid must agree in them.
    facts : Facts
        What the frame says about itself.
    known_until : int, optional
        The instant as of which sessions are known, where that is later than `as_of`: what
        ended in between has its verdict, though time is measured up to `as_of` only.
    named_until : pandas.Timestamp, optional
        The end of the window: policies name the VMs of their newest settings by then.

    Raises
    ------
    InputError
        When a needed column is missing or does not hold times with a zone.
    """

    def made() -> SessionArrays:
        return _read(sessions, as_of, policies, unobserved, by, facts, known_until, named_until)

    kept = _KEEPER.get()
    if kept is None or len(sessions) > _KEPT_ROWS:
        return made()
    foreign = tuple(name for name in by if name not in SESSIONS.names)
    held = (sessions, policies, unobserved)
    key = (*map(id, held), as_of, foreign, facts, known_until, named_until)
    # What is known by its identity has to stay alive.
    entry = kept.pop(key, None) or (*held, made())
    while len(kept) >= _KEPT:
        kept.pop(next(iter(kept)), None)
    kept[key] = entry  # the one used last is the last to go
    return entry[-1]


def _read(
    sessions: pd.DataFrame,
    as_of: int,
    policies: pd.DataFrame | None,
    unobserved: pd.DataFrame | None,
    by: Sequence[str],
    facts: Facts,
    known_until: int | None,
    named_until: pd.Timestamp | None,
) -> SessionArrays:
    require(sessions, NEEDED, _PURPOSE)
    frame = sessions.reset_index(drop=True) if facts.untouched else _unique_sessions(sessions, by)
    created, ended = instants(frame, "created"), instants(frame, "ended")
    if (created == UNKNOWN).any():
        row = int(np.flatnonzero(created == UNKNOWN)[0])
        raise InputError(
            f"session {row} has no 'created'; drop such rows (df.dropna(subset=['created']))"
        )
    running = _running(frame, ended)
    completed = _completed(frame, running)
    present = created < as_of
    # As known at as_of: what ended later was still running, and what began later is not there.
    known = as_of if known_until is None else known_until
    still = present & (ended != UNKNOWN) & (ended > known) & (running | completed)
    running, completed = (running | still) & present, completed & ~still & present
    ended = np.where(still, UNKNOWN, ended)
    verdict = _verdict(frame, completed, created, ended)
    listed = settings.listed_vms(policies, "backup_server" in frame, named_until)
    keys = {key: common_codes(_column(frame, key), _column(listed, key), text=True) for key in KEYS}
    servers, names = keys["backup_server"], keys["vm"]
    vm, _ = compact_codes((servers.codes + 1) * (len(names.values) + 1) + names.codes + 1)
    holes = _holes(unobserved, servers)
    return SessionArrays(
        frame, listed, keys, vm, created, ended, verdict, running, completed,
        present & ~_is_pending(frame), "result" in frame, policies,
        _targets(frame, keys, policies), as_of,
        _runs_until(frame, servers.codes[: len(frame)], as_of, holes), holes, facts,
    )  # fmt: skip


def as_of_frame(frame: pd.DataFrame, known: Facts, as_of: pd.Timestamp | None = None) -> int:
    """Return the instant up to which sessions are known, in microseconds.

    As given; else what the frame says of its source; else the newest `as_of` of its rows;
    else its latest `created` or `ended`.
    """
    stated = known.as_of if as_of is None else as_of
    if stated is not None:
        return us_of(stated)
    if "as_of" in frame:
        stamped = instants(frame, "as_of")
        if (stamped != UNKNOWN).any():
            return int(stamped.max())
    require(frame, NEEDED, _PURPOSE)
    ends = (instants(frame, column) for column in ("created", "ended"))
    return int(max(end.max() for end in ends)) if len(frame) else 0


# -- duplicates ------------------------------------------------------------------------


def _unique_sessions(frame: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """Return one row per uid: the one with the newest `as_of`.

    Of rows with one `as_of`, or none, the one with an end counts, then the later end, then
    the greater result; what is still equal is decided by the other columns' own order, so
    that the order of rows never decides.

    Raises
    ------
    InputError
        When rows of one uid differ in a column of `by` that is not a session's own: a join
        has multiplied the sessions.
    """
    frame = frame.reset_index(drop=True)
    again = duplicated_positions(frame["uid"]) if "uid" in frame else None
    if again is None or not len(again):
        return frame
    rows = frame.iloc[again]
    _refuse_multiplied(rows, by)
    order = _by_rank(rows)
    older = rows.index[order[np.asarray(rows["uid"].iloc[order].duplicated(keep="last"))]]
    return frame.drop(older).reset_index(drop=True)


def _by_rank(rows: pd.DataFrame) -> Integers:
    """Order of duplicated rows, the one that counts last."""
    ranks = [instants(rows, name) for name in ("as_of", "ended") if name in rows]
    if "result" in rows:
        words = pd.Index(RESULTS, dtype="str")
        ranks.append(words.get_indexer(pd.Index(rows["result"].astype("str"))))
    others = rows.columns.intersection(SESSIONS.names, sort=False)
    others = others.drop(["uid", "as_of", "ended", "result"], errors="ignore")
    ranks += [codes_of(rows[name]).codes for name in others]
    return np.lexsort(ranks[::-1]) if ranks else np.arange(len(rows))


def _refuse_multiplied(rows: pd.DataFrame, by: Sequence[str]) -> None:
    for name in by:
        if name in rows and name not in SESSIONS.names:
            codes = codes_of(rows[name]).codes
            pairs = pd.DataFrame({"uid": rows["uid"].to_numpy(), "code": codes}).drop_duplicates()
            repeated = pairs["uid"].duplicated()
            if repeated.any():
                uid = pairs.loc[repeated, "uid"].iloc[0]
                values = rows.loc[(rows["uid"] == uid).to_numpy(), name].unique().tolist()
                raise InputError(
                    f"session {uid} occurs with different {name!r}: {values}; a join has "
                    f"multiplied the sessions, so make its table unique first, one {name!r} per VM"
                )


# -- states and verdicts -----------------------------------------------------------------


def _running(frame: pd.DataFrame, ended: Integers) -> Flags:
    """Sessions that are InProgress; without states, those with no end."""
    if "state" not in frame:
        return np.asarray(ended == UNKNOWN)
    return frame["state"].eq("InProgress").fillna(False).to_numpy(dtype=bool)


def _is_pending(frame: pd.DataFrame) -> Flags:
    """Sessions that have not begun to replicate: they are not attempts."""
    if "state" not in frame:
        return np.zeros(len(frame), dtype=bool)
    return frame["state"].eq("Pending").fillna(False).to_numpy(dtype=bool)


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
    _check_results(words, place)
    codes = np.append(np.maximum(place, NO_VERDICT), NO_VERDICT).astype(np.int8)[words.codes]
    codes[~(completed & (ended >= created))] = NO_VERDICT  # a missing end is the least integer
    return codes


def _check_results(words: pd.Categorical, place: NDArray[np.intp]) -> None:
    """Refuse a word that is not a result: taken for no verdict, it would protect in silence."""
    unknown = words.categories[place < 0]
    if not len(unknown):
        return
    used = [word for word in unknown if str(word).strip() and (words == word).any()]
    if used:
        raise InputError(
            f"column 'result' holds {str(used[0])!r}, not one of {', '.join(RESULTS)}; say what it "
            f'means: df.cdp.select(results={{{str(used[0])!r}: "Failed"}})'
        )


# -- holes -----------------------------------------------------------------------------


def _holes(unobserved: pd.DataFrame | None, servers: Codes) -> tuple[Hole, ...]:
    """Read stretches never fetched; those of a backup server that has no session are left out."""
    if unobserved is None or not len(unobserved):
        return ()
    require(unobserved, ("start", "end"), " in unobserved; it needs")
    start, stop = instants(unobserved, "start"), instants(unobserved, "end")
    if (start == UNKNOWN).any() or (stop == UNKNOWN).any():
        raise InputError("unobserved has a row without start or end; drop it, or fill it in")
    named = _column(unobserved, "backup_server").astype("str").reset_index(drop=True)
    codes = servers.values.get_indexer(pd.Index(named.fillna("")))
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
    seen = np.where(stamped == UNKNOWN, as_of, stamped)
    for hole in reversed(holes):
        cut = ((server == hole.server) | (hole.server is None)) & (seen < hole.stop)
        until = np.where(cut, np.minimum(as_of, np.maximum(seen, hole.start)), until)
    return until


# -- targets -----------------------------------------------------------------------------


def _targets(
    frame: pd.DataFrame, keys: dict[str, Codes], policies: pd.DataFrame | None
) -> Integers:
    """Each session's own RPO, else its policy's newest one, in microseconds; UNKNOWN without."""
    rpo = np.full(len(frame), UNKNOWN, dtype=np.int64)
    if "rpo" in frame:
        rpo = durations_of(frame["rpo"])
    if policies is None or not (rpo == UNKNOWN).any():
        return rpo
    policy, names = settings.numbered(keys, len(frame))
    newest = settings.newest_setting(names, policies, "rpo")
    return np.where(rpo == UNKNOWN, durations_of(newest)[policy], rpo)


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    if name in frame:
        return frame[name]
    return pd.Series([None] * len(frame), dtype="str", index=frame.index)
