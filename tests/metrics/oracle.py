"""The definitions of `metrics.md` once more, slow and plain: every step of a grid is asked.

Time is a grid of steps of one length on which everything lies. For each VM and each
step the questions of the definitions are asked one by one: who owns it, is it covered,
is it scheduled, how long has it been exposed. No NumPy, no pandas, no code shared.
Rows are dictionaries; what is not known is None.
"""

from __future__ import annotations

import datetime as dt
import functools
from zoneinfo import ZoneInfo

UTC = dt.UTC
QUARTER = dt.timedelta(minutes=15)
ZERO = dt.timedelta(0)
KEYS = ("backup_server", "policy", "vm")


def unique(rows):
    """Of rows with one uid the newest as_of, or the last row where that is unknown."""
    kept, order = {}, 0
    for order, row in enumerate(rows):
        name = ("uid", row["uid"]) if row.get("uid") is not None else ("row", order)
        stamp = row.get("as_of")
        rank = (stamp is not None, stamp or dt.datetime.min.replace(tzinfo=UTC), order)
        if name not in kept or rank > kept[name][0]:
            kept[name] = (rank, row)
    return [row for _, row in kept.values()]


def speaks_for(rows):
    stamps = [row["as_of"] for row in rows if row.get("as_of") is not None]
    ends = [row["ended"] for row in rows if row["ended"] is not None]
    return max(stamps or [row["created"] for row in rows] + ends)


def is_finished(row):
    return (
        row["state"] == "Completed" and row["ended"] is not None and row["ended"] >= row["created"]
    )


def verdict(row):
    """The Result of a Completed session that has an end; None where there is none."""
    known = is_finished(row) and row["result"] in ("Success", "Warning", "Failed")
    return row["result"] if known else None


def span(row, as_of):
    """[created, stop), or None."""
    if row["state"] == "InProgress":
        stop = row.get("_until", as_of) if row["ended"] is None else row["ended"]
        stop = min(stop, as_of)
    elif is_finished(row):
        stop = min(row["ended"], as_of)
    else:
        return None
    return (row["created"], stop) if row["created"] < stop else None


def protecting(rows, as_of, protects):
    """(begin, stop, row) of each protecting span."""
    found = []
    for row in rows:
        lies = span(row, as_of)
        if lies and (row["state"] == "InProgress" or verdict(row) in (None, *protects)):
            found.append((*lies, row))
    return found


def newest_begun(spans, instant):
    """The newest span begun at or before `instant`; of several, the one lasting longest."""
    begun = [s for s in spans if s[0] <= instant]

    def rank(span):
        goal = span[2]["_goal"]
        return span[0], span[1], span[2]["policy"] or "", goal is not None, -(goal or ZERO)

    return max(begun, key=rank, default=None)


@functools.cache
def allowed(hours, instant, tz):
    if hours is None:
        return True
    wall = instant.astimezone(ZoneInfo(tz))
    return hours[wall.weekday() * 24 + wall.hour] != "0"


@functools.cache
def period_key(instant, freq, tz):
    wall = instant.astimezone(ZoneInfo(tz))
    if freq == "h":
        return wall.date(), wall.hour, wall.utcoffset()
    if freq == "D":
        return wall.date()
    if freq == "W":
        return wall.date() - dt.timedelta(days=wall.weekday())
    return wall.year, wall.month


def natural_start(instant, freq, tz):
    """The earliest quarter of an hour in the same period."""
    if freq is None:
        return None
    key = period_key(instant, freq, tz)
    at = instant
    while period_key(at - QUARTER, freq, tz) == key:
        at -= QUARTER
    return at


def window(rows, as_of, since, until, freq, tz, step):
    """(name, begin, end) of each period."""
    start = since or min([row["created"] for row in rows] + [as_of])
    stop = max(start, min(until or as_of, as_of))
    if freq is None or start == stop:
        return [(natural_start(start, freq, tz), start, stop)]
    cuts, at = [start], start + step
    while at < stop:
        if period_key(at, freq, tz) != period_key(at - step, freq, tz):
            cuts.append(at)
        at += step
    ends = [*cuts[1:], stop]
    return [(natural_start(a, freq, tz), a, b) for a, b in zip(cuts, ends, strict=True)]


def place(instant, periods, as_of, until):
    """The period an instant counts in, or None; as_of itself counts unless `until` forbids it."""
    for number, (_, begin, end) in enumerate(periods):
        if begin <= instant < end:
            return number
    reaches = until is None or until > as_of
    return len(periods) - 1 if instant == as_of == periods[-1][2] and reaches else None


def key_of(row, by):
    return tuple(row[name] for name in by)


def in_order(keys):
    return sorted(keys, key=lambda key: tuple((name is None, name or "") for name in key))


def setting(policies, row, column):
    for policy in policies:
        if (policy["backup_server"], policy["policy"]) == (row["backup_server"], row["policy"]):
            return policy[column]
    return None


def vms_of(rows):
    found = {}
    for row in rows:
        found.setdefault((row["backup_server"], row["vm"]), []).append(row)
    return found


def prepared(rows, policies, target):
    """Each row with the target it goes by (`_goal`), the argument overriding its own."""
    goals = []
    for row in unique(rows):
        own = row["rpo"] if row["rpo"] is not None else setting(policies, row, "rpo")
        goals.append({**row, "_own": own, "_goal": own if target is None else target})
    return goals


def concern(holes, server):
    """The holes of a backup server, and those of all; joined where they overlap or touch."""
    mine = [h for h in holes if h["start"] < h["end"] and h["backup_server"] in (None, server)]
    joined = []
    for hole in sorted((h["start"], h["end"]) for h in mine):
        if joined and hole[0] <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], hole[1]))
        else:
            joined.append(hole)
    return joined


def known_to_run(rows, as_of, holes):
    """Each row with the instant until which it runs, if it does (`_until`)."""
    told = []
    for row in rows:
        stamp = row.get("as_of") or as_of
        later = [h for h in concern(holes, row["backup_server"]) if h[1] > stamp]
        told.append({**row, "_until": max(stamp, later[0][0]) if later else as_of})
    return told


def darkness(own, spans, as_of, holes):
    """[start, stop) of what is not observed of one VM."""
    found = []
    for start, end in concern(holes, own[0]["backup_server"]):
        known = any(s[0] <= end < s[1] for s in spans)
        later = [row["created"] for row in own if row["created"] >= end]
        found.append((start, end if known else min([*later, as_of])))
    return found


def is_closed(exclude, row, instant):
    """Whether a maintenance window of everyone's, or of this row's, lies over an instant."""
    return any(
        window["start"] <= instant < window["end"]
        and all(window[key] in (None, row[key]) for key in KEYS)
        for window in exclude
    )


def steps_of(rows, as_of, hours_of, tz, protects, step, holes=(), exclude=(), retire_after=None):
    """Every observed step of every VM, with all that is to be known of it."""
    steps = []
    for vm, own in vms_of(known_to_run(rows, as_of, holes)).items():
        spans = protecting(own, as_of, protects)
        if not spans:
            continue
        dark = darkness(own, spans, as_of, holes)

        def runs(row, instant, dark=dark):
            is_dark = any(a <= instant < b for a, b in dark)
            return allowed(hours_of(row), instant, tz) and not (
                is_dark or is_closed(exclude, row, instant)
            )

        strict = [s for s in spans if s[2]["state"] == "InProgress" or verdict(s[2]) == "Success"]
        at = first = min(s[0] for s in spans)
        gap = None
        while at < as_of:
            row = newest_begun(spans, at)[2]
            ticks = runs(row, at)
            covered = any(s[0] <= at < s[1] for s in spans)
            if covered:
                gap = None
            elif gap is None:
                gap = {"vm": vm, "row": row, "start": at, "end": at, "length": ZERO,
                       "goal": row["_goal"]}  # fmt: skip
            age = gap["length"] if gap else None
            if gap:
                gap["end"] = at + step
                gap["length"] += step if ticks else ZERO
            past = [min(s[1], at) for s in strict if s[0] <= at]
            since = max([first, *past])
            strict_age = None
            if not any(s[0] <= at < s[1] for s in strict):
                stands = hours_of(row) or dark or exclude
                ticking = range((at - since) // step) if stands else ()
                strict_age = ZERO if stands else at - since
                for tick in ticking:
                    strict_age += step if runs(row, since + tick * step) else ZERO
            scheduled = allowed(hours_of(row), at, tz)
            shut = is_closed(exclude, row, at)
            steps.append({"at": at, "row": row, "ticks": ticks, "covered": covered, "gap": gap,
                          "age": age, "strict_age": strict_age, "goal": row["_goal"],
                          "excluded": scheduled and shut, "retired": False, "vm": vm,
                          "unobserved": scheduled and not shut and not ticks})  # fmt: skip
            at += step
        if gap and retire_after is not None and gap["length"] >= max(retire_after, step):
            for known in steps:
                known["retired"] = known["retired"] or known["gap"] is gap
    return steps


def rpo_adherence(rows, *, target=None, by=("policy", "vm"), since=None, until=None, as_of=None,
                  freq=None, schedule=None, tz="UTC", protects=("Success", "Warning"),
                  policies=(), step=QUARTER, unobserved=(), exclude=(), retire_after=None):  # fmt: skip
    """Rows of the table as dictionaries, in order; None where it says NA."""
    rows = prepared(rows, policies, target)
    as_of = as_of or speaks_for(rows)
    periods = window(rows, as_of, since, until, freq, tz, step)

    def hours_of(row):
        return schedule or setting(policies, row, "schedule")

    steps = steps_of(rows, as_of, hours_of, tz, protects, step, unobserved, exclude, retire_after)
    listed = [{"backup_server": p["backup_server"], "policy": p["policy"], "vm": vm}
              for p in policies for vm in p["vms"]]  # fmt: skip
    keys = in_order({key_of(row, by) for row in [*rows, *listed]})
    table = []
    for key in keys:
        mine = [s for s in steps if key_of(s["row"], by) == key]
        members = [row for row in rows if key_of(row, by) == key]
        for number, (name, begin, end) in enumerate(periods):
            begun = [r for r in members if place(r["created"], periods, as_of, until) == number]
            inside = [s for s in mine if begin <= s["at"] < end]
            table.append(
                dict(zip(by, key, strict=True)) | {"period": name}
                | cell(begun, inside, members, target, step)
            )  # fmt: skip
    return table


def cell(begun, inside, members, target, step):
    verdicts = [verdict(row) for row in begun]
    gone = {s["vm"] for s in inside if s["retired"]}
    goals = {row["_goal"] for row in begun} | {s["goal"] for s in inside if not s["retired"]}
    inside = [s for s in inside if not s["retired"]]
    success, warning, failed = (verdicts.count(v) for v in ("Success", "Warning", "Failed"))
    seen = [s for s in inside if s["ticks"]]
    bare = [s for s in seen if not s["covered"]]
    aimed = all(s["goal"] is not None for s in seen)
    late = [s for s in bare if aimed and s["age"] >= s["goal"]]
    strict_late = [
        s for s in seen if aimed and s["strict_age"] is not None and s["strict_age"] >= s["goal"]
    ]
    gaps = list({id(s["gap"]): s["gap"] for s in bare}.values())
    missed = [g for g in gaps if aimed and g["length"] > g["goal"]]
    goals = goals or {row["_goal"] for row in members} or {target}
    finished = success + warning + failed
    judged = bool(seen) and aimed
    return {
        "rpo": goals.pop() if len(goals) == 1 else None,
        "sessions": len(begun),
        "success": success,
        "warning": warning,
        "failed": failed,
        "unknown": verdicts.count(None),
        "observed": len(seen) * step,
        "exposed": len(bare) * step,
        "breached": len(late) * step if aimed else None,
        "gaps": len(gaps),
        "breaches": len(missed) if aimed else None,
        "worst_gap": max((g["length"] for g in gaps), default=None),
        "adherence": 1 - len(late) / len(seen) if judged else None,
        "adherence_strict": 1 - len(strict_late) / len(seen) if judged else None,
        "gap_adherence": 1 - len(missed) / len(gaps) if gaps and aimed else None,
        "success_rate": success / finished if finished else None,
        "unobserved": sum(s["unobserved"] for s in inside) * step,
        "excluded": sum(s["excluded"] for s in inside) * step,
        "retired": len(gone),
    }


def gaps(rows, *, target=None, since=None, until=None, as_of=None, schedule=None, tz="UTC",
         protects=("Success", "Warning"), policies=(), step=QUARTER, unobserved=(), exclude=(),
         retire_after=None):  # fmt: skip
    rows = prepared(rows, policies, target)
    as_of = as_of or speaks_for(rows)
    ((_, begin, end),) = window(rows, as_of, since, until, None, tz, step)

    def hours_of(row):
        return schedule or setting(policies, row, "schedule")

    steps = steps_of(rows, as_of, hours_of, tz, protects, step, unobserved, exclude, retire_after)
    bare = [
        s for s in steps
        if (s["ticks"] or s["retired"]) and not s["covered"] and begin <= s["at"] < end
    ]  # fmt: skip
    retired = {id(s["gap"]) for s in steps if s["retired"]}
    table = []
    for gap in {id(s["gap"]): s["gap"] for s in bare}.values():
        length, goal = gap["length"], gap["goal"]
        lost = [
            r for r in rows
            if (r["backup_server"], r["vm"]) == gap["vm"]
            and verdict(r) is not None and verdict(r) not in protects
            and r["created"] < gap["end"]
            and (r["ended"] > gap["start"] or r["created"] >= gap["start"])
        ]  # fmt: skip
        newest = max(
            lost,
            key=lambda r: (r["ended"], r["created"],
                           ("Success", "Warning", "Failed").index(verdict(r)), r["reason"] or ""),
            default=None,
        )  # fmt: skip
        cause = "no session"
        if newest:
            cause = verdict(newest) + (f": {newest['reason']}" if newest["reason"] else "")
        table.append({
            "backup_server": gap["row"]["backup_server"], "vm": gap["row"]["vm"],
            "policy": gap["row"]["policy"], "start": gap["start"], "end": gap["end"],
            "open": gap["end"] == as_of, "exposure": length,
            "breached": None if goal is None else max(length - goal, ZERO), "cause": cause,
            "retired": id(gap) in retired,
        })  # fmt: skip
    return sorted(table, key=lambda g: (g["start"], g["backup_server"], g["vm"]))


def durations(rows, *, by=("policy", "vm"), since=None, until=None, as_of=None):
    rows = unique(rows)
    as_of = as_of or speaks_for(rows)
    periods = window(rows, as_of, since, until, None, "UTC", QUARTER)
    table = []
    for key in in_order({key_of(row, by) for row in rows}):
        begun = [
            row for row in rows
            if key_of(row, by) == key and place(row["created"], periods, as_of, until) == 0
        ]  # fmt: skip
        done = [r for r in begun if is_finished(r) and r["ended"] <= as_of]
        going = [r for r in begun if r["state"] == "InProgress"
                 or (is_finished(r) and r["ended"] > as_of)]  # fmt: skip
        lengths = sorted(r["ended"] - r["created"] for r in done)
        table.append(dict(zip(by, key, strict=True)) | {
            "sessions": len(done), "running": len(going),
            "unknown": len(begun) - len(done) - len(going),
            "mean": sum(lengths, ZERO) / len(lengths) if lengths else None,
            "median": quantile(lengths, 0.5), "p95": quantile(lengths, 0.95),
            "max": lengths[-1] if lengths else None,
            "total": sum(lengths, ZERO) if lengths else None,
        })  # fmt: skip
    return table


def quantile(ordered, share):
    """Type 7: linear between the order statistics around (n - 1) * share."""
    if not ordered:
        return None
    place = (len(ordered) - 1) * share
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def sizes(rows, *, by=("policy", "vm"), freq="D", reading="size", since=None, until=None,
          as_of=None, tz="UTC", policies=(), unobserved=(), retire_after=None,
          step=QUARTER):  # fmt: skip
    rows = prepared(rows, policies, None)
    as_of = as_of or speaks_for(rows)
    periods = window(rows, as_of, since, until, freq, tz, step)
    steps = steps_of(
        rows, as_of, lambda row: setting(policies, row, "schedule"), tz, ("Success", "Warning"),
        step, unobserved, (), retire_after,
    )  # fmt: skip
    gone = {s["vm"]: s["gap"]["start"] for s in steps if s["retired"]}
    reaches = until is None or until > as_of
    sized = [r for r in rows if is_finished(r) and r["total_size"] is not None
             and r["ended"] <= as_of]  # fmt: skip
    table = []
    for key in in_order({key_of(row, by) for row in rows}):
        known = []
        for number, (name, _, end) in enumerate(periods):
            last = number == len(periods) - 1
            held, retired = [], 0
            for vm, own in vms_of(sized).items():
                past = [r for r in own if r["ended"] < end
                        or (last and reaches and r["ended"] == end == as_of)]  # fmt: skip
                past = [r for r in past if vm not in gone or r["ended"] <= gone[vm]]
                newest = max(
                    past, default=None,
                    key=lambda r: (r["ended"], r["created"], r["total_size"], r["policy"] is None,
                                   r["policy"] or ""),
                )  # fmt: skip
                is_gone = vm in gone and gone[vm] < end
                if newest and key_of(newest, by) == key:
                    retired += is_gone
                    held += [] if is_gone else [newest["total_size"]]
            here = [r for r in sized if key_of(r, by) == key
                    and place(r["ended"], periods, as_of, until) == number]  # fmt: skip
            size = sum(held) if held else None
            if reading == "volume":
                size = sum(r["total_size"] for r in here) if held or here else None
            known.append(size)
            week = known[-7:]
            table.append(dict(zip(by, key, strict=True)) | {
                "period": name, "vms": len(held), "sessions": len(here), "size": size,
                "rolling": sum(week) / 7 if len(week) == 7 and None not in week else None,
                "running": sum(
                    r["state"] == "InProgress" and key_of(r, by) == key
                    and place(r["created"], periods, as_of, until) == number for r in rows
                ),
                "retired": retired,
            })  # fmt: skip
    return table
