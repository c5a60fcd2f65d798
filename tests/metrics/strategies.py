"""Small random fleets on a coarse grid, so that ties, touches and overlaps happen often."""

from __future__ import annotations

import datetime as dt

import pandas as pd
from hypothesis import strategies as st

from cdpanalytics.schema import RESULTS, STATES

UTC = dt.UTC
STEP = dt.timedelta(minutes=15)
ORIGINS = (
    dt.datetime(2026, 10, 1, tzinfo=UTC),
    dt.datetime(2026, 3, 28, 13, tzinfo=UTC),  # Prague loses an hour on the 29th
    dt.datetime(2026, 10, 24, 13, tzinfo=UTC),  # Prague gains an hour on the 25th
    dt.datetime(2026, 2, 28, 20, tzinfo=UTC),
)
ZONES = ("UTC", "Europe/Prague", "Asia/Kolkata")
FREQUENCIES = (None, "h", "D", "W", "MS")
BY = (("policy", "vm"), ("vm",), ("policy",), ("backup_server",), ("backup_server", "vm"), ())
MINUTES = st.sampled_from([0, 15, 30, 60, 180]).map(lambda m: dt.timedelta(minutes=m))
OFFICE = ("1" * 8 + "0" * 8 + "1" * 8) * 7
WEEKDAYS_ONLY = "1" * 120 + "0" * 48
HOURS = st.one_of(
    st.sampled_from([OFFICE, WEEKDAYS_ONLY, "0" * 168, "10" * 84]),
    st.integers(0, 2**168 - 1).map(lambda bits: f"{bits:0168b}"),
)
A_VM = st.sampled_from(["db", "web"])
A_POLICY = st.sampled_from(["gold", "iron", None])
A_SERVER = st.sampled_from(["east", "east", "west"])
A_RESULT = st.sampled_from([*RESULTS, "Success", "Failed", None])
A_REASON = st.sampled_from([None, "", "Host is off", "Timeout"])
A_SIZE = st.sampled_from([None, 0, 5, 16 << 30, 7 << 40])
A_STATE = st.sampled_from([*STATES, "Completed", "Completed", "Completed"])
LENGTHS = st.sampled_from([*range(41), 0, 0, 1, 1, 2, 2, -1, -1])
TIMES = ("created", "ended", "as_of")


@st.composite
def fleets(draw, most=7, stamped=True, one_policy=False, reach=160, unit=STEP):
    """A list of rows as dictionaries, None where nothing is known."""
    origin = draw(st.sampled_from(ORIGINS))
    rows = []
    for number in range(draw(st.integers(1, most))):
        begin = draw(st.integers(0, reach))
        length = draw(LENGTHS)
        state = draw(A_STATE)
        usual_end = state == "Completed"
        ends = usual_end if draw(st.integers(0, 7)) else not usual_end
        rows.append({
            "uid": f"00000000-0000-4000-8000-{number:012x}",
            "vm": draw(A_VM),
            "policy": "gold" if one_policy else draw(A_POLICY),
            "backup_server": draw(A_SERVER),
            "created": origin + begin * unit,
            "ended": origin + (begin + length) * unit if ends else None,
            "state": state,
            "result": draw(A_RESULT),
            "reason": draw(A_REASON),
            "total_size": draw(A_SIZE),
            "rpo": dt.timedelta(minutes=30) if one_policy else draw(
                st.sampled_from([None, *map(dt.timedelta, [0] * 3, [900, 900, 7200])])
            ),
            "as_of": None,
        })  # fmt: skip
    if stamped and draw(st.booleans()):
        stamp = origin + draw(st.integers(reach // 2, reach + 40)) * unit
        rows = [row | {"as_of": stamp} for row in rows]
        again = draw(st.sampled_from(rows))
        older = stamp - draw(st.integers(1, 8)) * unit
        rows.append(again | {"as_of": older, "state": "InProgress", "ended": None})
    return rows


@st.composite
def settings_of_policies(draw):
    """Rows of policies: their targets, schedules and the VMs they name."""
    return [
        {
            "policy": policy, "backup_server": server,
            "rpo": draw(st.one_of(st.none(), MINUTES)),
            "schedule": draw(st.one_of(st.none(), HOURS)),
            "long_term": draw(st.sampled_from([None, dt.timedelta(hours=1), dt.timedelta(hours=5)])),
            "vms": draw(st.lists(st.sampled_from(["db", "web", "idle"]), max_size=2, unique=True)),
        }
        for policy in ("gold", "iron") for server in ("east", "west")
    ]  # fmt: skip


@st.composite
def holes(draw, rows):
    """Stretches never fetched, of all backup servers or of one, overlapping or not."""
    edges = [row[name] for row in rows for name in TIMES if row[name] is not None]
    instant = st.one_of(st.sampled_from(edges), st.sampled_from(edges), instants(rows))
    return [
        {"start": start, "end": end,
         "backup_server": draw(st.sampled_from([None, None, "east", "nowhere"]))}
        for start, end in draw(st.lists(st.tuples(instant, instant).map(sorted), max_size=3))
    ]  # fmt: skip


@st.composite
def maintenance(draw, rows):
    """Maintenance windows of everyone, or of a server, a policy, a VM; overlapping or not."""
    whom = {
        "backup_server": st.sampled_from([None, None, "east", "nowhere"]),
        "policy": st.sampled_from([None, None, "gold", "iron"]),
        "vm": st.sampled_from([None, None, "db", "web"]),
    }
    edges = st.lists(instants(rows), min_size=2, max_size=2, unique=True).map(sorted)
    return [
        {"start": start, "end": end, **{key: draw(value) for key, value in whom.items()}}
        for start, end in draw(st.lists(edges, max_size=3))
    ]


def maintenance_frame(rows):
    """Maintenance windows as an analyst keeps them."""
    table = pd.DataFrame(rows, columns=["start", "end", "backup_server", "policy", "vm"])
    for column in ("start", "end"):
        table[column] = pd.to_datetime(table[column], utc=True).dt.as_unit("us")
    return table.astype(dict.fromkeys(("backup_server", "policy", "vm"), "str"))


def hole_frame(rows):
    """Holes as `archive.holes()` gives them."""
    table = pd.DataFrame(rows, columns=["start", "end", "backup_server"])
    for column in ("start", "end"):
        table[column] = pd.to_datetime(table[column], utc=True).dt.as_unit("us")
    return table.astype({"backup_server": "str"})


@st.composite
def journal_rows(draw):
    """A row of the journal: a stretch asked about, or one that could be restored to."""
    start = draw(st.integers(0, 24))
    kind = draw(st.sampled_from(["Asked", "RestoreAvailable", "RestoreAvailable"]))
    rpo = draw(st.sampled_from([None, *map(dt.timedelta, [0] * 3, [0, 15, 2400])]))
    return {
        "backup_server": draw(A_SERVER), "vm": draw(A_VM), "policy": "gold", "kind": kind,
        "start": ORIGINS[0] + start * STEP,
        "end": ORIGINS[0] + (start + draw(st.integers(0, 8))) * STEP,
        "rpo": None if kind == "Asked" else rpo,
    }  # fmt: skip


def journal_frame(rows):
    """The journal as `archive.intervals()` gives it."""
    columns = ["backup_server", "vm", "policy", "kind", "start", "end", "rpo"]
    table = pd.DataFrame(rows, columns=columns)
    for column in ("start", "end"):
        table[column] = pd.to_datetime(table[column], utc=True).dt.as_unit("us")
    table["rpo"] = pd.to_timedelta(table["rpo"]).dt.as_unit("us")
    return table.astype(dict.fromkeys(("backup_server", "vm", "policy", "kind"), "str"))


def instants(rows, before=20, after=20):
    """Instants on the grid in and around `rows`."""
    first = min(row["created"] for row in rows)
    last = max(max(row["created"], row["ended"] or row["created"]) for row in rows)
    steps = (last - first) // STEP
    return st.integers(-before, steps + after).map(lambda step: first + step * STEP)


@st.composite
def windows(draw, rows):
    """since, until and as_of, each of which may be absent."""
    since, until, as_of = (draw(st.one_of(st.none(), instants(rows))) for _ in range(3))
    if since is not None and until is not None and since >= until:
        since, until = until, since + STEP
    return {"since": since, "until": until, "as_of": as_of}


def frame(rows):
    """Rows as a session frame."""
    columns = ["uid", "vm", "policy", "backup_server", "created", "ended", "state", "result",
               "reason", "total_size", "rpo", "as_of"]  # fmt: skip
    table = pd.DataFrame(rows, columns=columns)
    for column in TIMES:
        table[column] = pd.to_datetime(table[column], utc=True).dt.as_unit("us")
    table["rpo"] = pd.to_timedelta(table["rpo"]).dt.as_unit("us")
    words = ("uid", "vm", "policy", "backup_server", "state", "result", "reason")
    return table.astype(dict.fromkeys(words, "str") | {"total_size": "Int64"})


def policy_frame(rows):
    """Rows of policies as a frame."""
    table = pd.DataFrame(rows)
    table["rpo"] = pd.to_timedelta(table["rpo"]).dt.as_unit("us")
    table["long_term"] = pd.to_timedelta(table["long_term"]).dt.as_unit("us")
    table["schedule"] = table["schedule"].astype("str")
    return table


def mapping(hours):
    """168 digits as a mapping of weekdays."""
    days = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
    return {
        day: [int(digit) for digit in hours[24 * number : 24 * number + 24]]
        for number, day in enumerate(days)
    }
