"""The definitions of docs/metrics.md once more, slow and plain: every step of a grid is asked.

Time is a grid of steps of one length on which everything lies. For each VM and each
step the questions of the definitions are asked one by one: who owns it, is it covered,
is it scheduled, is it left out and why, how long has it been exposed. No NumPy, no
pandas, no code shared. Rows are dictionaries; what is not known is None.
"""

from __future__ import annotations

import datetime as dt
import functools
from zoneinfo import ZoneInfo

UTC = dt.UTC
QUARTER = dt.timedelta(minutes=15)
ZERO = dt.timedelta(0)
DAY = dt.timedelta(days=1)
KEYS = ("backup_server", "policy", "vm")
VERDICTS = ("Success", "Warning", "Failed")


# -- rows ------------------------------------------------------------------------------


def unique(rows):
    """Of rows with one uid the newest as_of; then with an end, the later end, the greater result."""
    kept = {}
    for number, row in enumerate(rows):
        name = ("uid", row["uid"]) if row.get("uid") is not None else ("row", number)
        none = dt.datetime.min.replace(tzinfo=UTC)
        results = (None, "None", *VERDICTS)
        rank = (row.get("as_of") or none, row["ended"] is not None, row["ended"] or none,
                results.index(row["result"]))  # fmt: skip
        if name not in kept or rank > kept[name][0]:
            kept[name] = (rank, row)
    return [row for _, row in kept.values()]


def speaks_for(rows):
    stamps = [row["as_of"] for row in rows if row.get("as_of") is not None]
    ends = [row["ended"] for row in rows if row["ended"] is not None]
    return max(stamps or [row["created"] for row in rows] + ends)


def known_then(rows, as_of):
    """The rows that were there at as_of, as they were known: what ended later was running."""
    seen = []
    for row in rows:
        if row["created"] >= as_of:
            continue
        over = is_finished(row) or row["state"] == "InProgress"
        if over and row["ended"] is not None and row["ended"] > as_of:
            row = {**row, "state": "InProgress", "ended": None}
        seen.append(row)
    return seen


def is_finished(row):
    return (
        row["state"] == "Completed" and row["ended"] is not None and row["ended"] >= row["created"]
    )


def verdict(row):
    """The Result of a Completed session that has an end; None where there is none."""
    return row["result"] if is_finished(row) and row["result"] in VERDICTS else None


def setting(policies, row, column):
    for policy in policies:
        if (policy["backup_server"], policy["policy"]) == (row["backup_server"], row["policy"]):
            return policy.get(column)
    return None


def prepared(rows, policies, target):
    """Each row with the target it goes by (`_goal`), the argument overriding its own."""
    goals = []
    for row in unique(rows):
        own = row["rpo"] if row["rpo"] is not None else setting(policies, row, "rpo")
        goals.append({**row, "_own": own, "_goal": own if target is None else target})
    return goals


def vms_of(rows):
    groups = {}
    for row in rows:
        groups.setdefault((row["backup_server"], row["vm"]), []).append(row)
    return groups


# -- spans and holes -------------------------------------------------------------------


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


def stop_of(row, as_of, holes):
    """Where a session stops, or None. A running one is known to run to a hole after its own as_of."""
    if row["state"] == "InProgress":
        stop = row["ended"]
        if stop is None:
            stamp = row.get("as_of") or as_of
            later = [h for h in concern(holes, row["backup_server"]) if h[1] > stamp]
            stop = max(stamp, later[0][0]) if later else as_of
    elif is_finished(row):
        stop = row["ended"]
    else:
        return None
    return min(stop, as_of)


def span(row, as_of, holes):
    """[created, stop), or None where that is empty."""
    stop = stop_of(row, as_of, holes)
    return (row["created"], stop) if stop is not None and row["created"] < stop else None


def protecting(rows, as_of, protects, holes):
    """(begin, stop, row) of each protecting span."""
    spans = []
    for row in rows:
        lies = span(row, as_of, holes)
        if lies and (row["state"] == "InProgress" or verdict(row) in (None, *protects)):
            spans.append((*lies, row))
    return spans


def rank(begin, stop, row):
    """The newest owns the time; of several begun together the longest, then by policy and target."""
    goal = row["_goal"]
    none = dt.datetime.min.replace(tzinfo=UTC)
    return begin, stop or none, row["policy"] or "", goal is not None, -(goal or ZERO)


def owner_at(instant, spans, attempts, as_of, holes):
    """The session whose time an instant is: the newest protecting span's, else the newest attempt's."""
    begun = [s for s in spans if s[0] <= instant]
    if begun:
        return max(begun, key=lambda s: rank(*s))[2]
    begun = [row for row in attempts if row["created"] <= instant]
    return max(begun, key=lambda r: rank(r["created"], stop_of(r, as_of, holes), r))


def cadence(own, spans, hole, policies):
    """LongTermRetentionHours of the newest protecting span's policy, else the longest session, else 24 h."""
    before = [s for s in spans if s[0] < hole[0]]
    if before:
        long_term = setting(policies, max(before, key=lambda s: rank(*s))[2], "long_term")
        if long_term:
            return long_term
    lengths = [r["ended"] - r["created"] for r in own if is_finished(r) and r["created"] < hole[0]]
    return max([*lengths, ZERO]) or DAY


def darkness(own, spans, as_of, holes, policies):
    """[start, stop) of what is not observed of one VM."""
    stretches = []
    for start, end in [(h["start"], h["end"]) for h in holes
                       if h["start"] < h["end"] and h["backup_server"] in (None, own[0]["backup_server"])]:  # fmt: skip
        known = any(s[0] <= end for s in spans) and max(s[1] for s in spans if s[0] <= end) > end
        later = [row["created"] for row in own if row["created"] >= end]
        limit = end + cadence(own, spans, (start, end), policies) * 11 / 10
        stretches.append((start, end if known else min([*later, limit, as_of])))
    return stretches


# -- clocks and periods --------------------------------------------------------------------


@functools.cache
def allowed(hours, instant, tz):
    if hours is None:
        return True
    wall = instant.astimezone(ZoneInfo(tz))
    return hours[wall.weekday() * 24 + wall.hour] != "0"


@functools.cache
def period_key(instant, freq, tz):
    """What all instants of a period have in common."""
    wall = instant.astimezone(ZoneInfo(tz))
    if freq == "h":
        return full_hour(instant, tz)
    if freq == "D":
        return wall.date()
    if freq == "W":
        return wall.date() - dt.timedelta(days=wall.weekday())
    return wall.year, wall.month


def full_hour(instant, tz):
    """The newest instant at which the wall clock read a full hour."""
    at = dt.datetime.fromtimestamp(instant.timestamp() // 900 * 900, UTC)
    while at.astimezone(ZoneInfo(tz)).minute:
        at -= QUARTER
    return at


def natural_start(instant, freq, tz):
    """The earliest quarter of an hour in the same period."""
    if freq is None:
        return None
    key = period_key(instant, freq, tz)
    if freq == "h":
        return key
    at = dt.datetime.fromtimestamp(instant.timestamp() // 900 * 900, UTC)
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


def place(instant, periods):
    """The period an instant lies in, or None."""
    for number, (_, begin, end) in enumerate(periods):
        if begin <= instant < end:
            return number
    return None


def place_end(instant, periods, as_of, until):
    """The same of a session's end: one at as_of is inside, where the window goes that far."""
    reaches = until is None or until > as_of
    if instant == as_of == periods[-1][2] and reaches:
        return len(periods) - 1
    return place(instant, periods)


def key_of(row, by):
    return tuple(row[name] for name in by)


def in_order(keys):
    return sorted(keys, key=lambda key: tuple((name is None, name or "") for name in key))


def is_closed(exclude, row, instant):
    """Whether a maintenance window of everyone's, or of this row's, lies over an instant."""
    return any(
        window["start"] <= instant < window["end"]
        and all(window[key] in (None, row[key]) for key in KEYS)
        for window in exclude
    )


# -- the walk --------------------------------------------------------------------------


class Terms:
    """What a walk goes by."""

    def __init__(self, *, as_of, schedule=None, tz="UTC", protects=("Success", "Warning"), policies=(),
                 step=QUARTER, holes=(), exclude=(), retire_after=None, grace=None):  # fmt: skip
        self.as_of, self.schedule, self.tz, self.protects = as_of, schedule, tz, protects
        self.policies, self.step, self.holes, self.exclude = policies, step, holes, exclude
        self.retire_after, self.grace = retire_after, grace

    def scheduled(self, row, instant):
        hours = self.schedule or setting(self.policies, row, "schedule")
        return allowed(hours, instant, self.tz)

    def whole(self):
        """The same without exclusions, grace and retirement."""
        return Terms(as_of=self.as_of, schedule=self.schedule, tz=self.tz, protects=self.protects,
                     policies=self.policies, step=self.step, holes=self.holes)  # fmt: skip


def steps_of(rows, terms):
    """Every step of every VM from its first attempt on, with all that is to be known of it."""
    steps = []
    for vm, own in vms_of(known_then(rows, terms.as_of)).items():
        attempts = [row for row in own if row["state"] != "Pending"]
        if attempts:
            steps += walk(vm, own, attempts, terms)
    return steps


def walk(vm, own, attempts, terms):
    as_of, step = terms.as_of, terms.step
    spans = protecting(own, as_of, terms.protects, terms.holes)
    dark = darkness(own, spans, as_of, terms.holes, terms.policies)
    strict = [s for s in spans if s[2]["state"] == "InProgress" or verdict(s[2]) == "Success"]
    first = min(row["created"] for row in attempts)
    protected = min([s[0] for s in spans], default=as_of)
    grace_ends = min(first + (terms.grace or ZERO), protected)

    def why_not(row, instant):
        """Why an instant is not observed: None where it is."""
        if not terms.scheduled(row, instant):
            return "forbidden"
        if instant < grace_ends or is_closed(terms.exclude, row, instant):
            return "excluded"
        return "unobserved" if any(a <= instant < b for a, b in dark) else None

    steps, at, gap = [], first, None
    while at < as_of:
        row = owner_at(at, spans, attempts, as_of, terms.holes)
        reason = why_not(row, at)
        if any(s[0] <= at < s[1] for s in spans):
            gap = None
        else:
            gap = gap or {"vm": vm, "row": None, "start": None, "length": ZERO, "goal": None}
            gap["end"] = at + step
            if gap["row"] is None and reason is None:
                gap.update(row=row, start=at, goal=row["_goal"])
        steps.append({"vm": vm, "at": at, "row": row, "reason": reason, "gap": gap,
                      "leading": at < protected, "after_retirement": False,
                      "dark": any(a <= at < b for a, b in dark)})  # fmt: skip
        at += step
    retire(steps, gap, terms)
    for s in steps:
        gap = s["gap"]
        s["age"] = gap["length"] if gap else None
        if gap and s["reason"] is None:
            gap["length"] += step
    ticks = {}
    for s in steps:
        s["strict_age"], s["strict_goal"] = s["age"], s["gap"] and s["gap"]["goal"]
        if not s["leading"]:
            row, now = s["row"], s["at"]
            s["strict_goal"] = row["_goal"]
            s["strict_age"] = None
            if not any(a <= now < b for a, b, _ in strict):
                since = max([first, *[min(b, now) for a, b, _ in strict if a <= now]])
                if id(row) not in ticks:
                    ticks[id(row)] = [0]
                    for other in steps:
                        runs = why_not(row, other["at"]) is None
                        ticks[id(row)].append(ticks[id(row)][-1] + runs)
                count = ticks[id(row)]
                s["strict_age"] = step * (
                    count[(now - first) // step] - count[(since - first) // step]
                )
    return steps


def retire(steps, gap, terms):
    """An open gap is left out from its beginning plus `retire_after` on."""
    if terms.retire_after is None or not gap or gap["start"] is None:
        return
    for s in steps:
        if s["gap"] is gap and s["at"] >= gap["start"] + terms.retire_after:
            s["after_retirement"] = True
            s["reason"] = s["reason"] or "retired"


# -- metrics ---------------------------------------------------------------------------


def rpo_adherence(rows, *, target=None, by=("policy", "vm"), since=None, until=None, as_of=None,
                  freq=None, tz="UTC", step=QUARTER, schedule_tz="UTC", **terms):  # fmt: skip
    """Rows of the table as dictionaries, in order; None where it says NA."""
    policies = terms.get("policies", ())
    rows = prepared(rows, policies, target)
    as_of = as_of or speaks_for(rows)
    terms = Terms(as_of=as_of, step=step, tz=schedule_tz, **terms)
    periods = window(rows, as_of, since, until, freq, tz, step)
    steps, whole = steps_of(rows, terms), steps_of(rows, terms.whole())
    listed = [{"backup_server": p["backup_server"], "policy": p["policy"], "vm": vm}
              for p in policies for vm in p["vms"]]  # fmt: skip
    spans = {vm: protecting(own, as_of, terms.protects, terms.holes)
             for vm, own in vms_of(known_then(rows, as_of)).items()}  # fmt: skip
    table = []
    for key in in_order({key_of(row, by) for row in [*rows, *listed]}):
        members = [row for row in rows if key_of(row, by) == key]
        named = {(r["backup_server"], r["vm"]) for r in listed if key_of(r, by) == key}
        for number, (name, begin, end) in enumerate(periods):
            begun = [
                r for r in known_then(members, as_of) if place(r["created"], periods) == number
            ]
            mine, full = (
                [s for s in every if key_of(s["row"], by) == key and begin <= s["at"] < end]
                for every in (steps, whole)
            )
            vms = named | {s["vm"] for s in mine if s["reason"] is None}
            vms |= {(r["backup_server"], r["vm"]) for r in begun if r["state"] != "Pending"}
            safe = {vm for vm in vms if any(a < end and b > begin for a, b, _ in spans.get(vm, ()))}
            owned = [s for s in steps if s["gap"] and s["gap"]["row"] is not None
                     and key_of(s["gap"]["row"], by) == key and begin <= s["at"] < end
                     and s["reason"] is None]  # fmt: skip
            table.append(
                dict(zip(by, key, strict=True)) | {"period": name}
                | cell(begun, mine, owned, members, target, step)
                | {"vms": len(vms), "unprotected": len(vms - safe),
                   "adherence_full": cell(begun, full, [], members, target, step)["adherence"]}
            )  # fmt: skip
    return table


def goal_of(step):
    """The target an instant is measured against: its gap's, where it is uncovered."""
    gap = step["gap"]
    return gap["goal"] if gap and gap["row"] is not None else step["row"]["_goal"]


def cell(begun, mine, owned, members, target, step):
    verdicts = [verdict(row) for row in begun]
    success, warning, failed = (verdicts.count(v) for v in VERDICTS)
    goals = {row["_goal"] for row in begun} | {
        s["row"]["_goal"] for s in mine if not s["after_retirement"]
    }
    seen = [s for s in mine if s["reason"] is None]
    bare = [s for s in seen if s["gap"]]
    aimed = all(goal_of(s) is not None for s in seen)
    late = [s for s in bare if aimed and s["age"] >= goal_of(s)]
    strict_late = [
        s
        for s in seen
        if aimed and s["strict_age"] is not None and s["strict_age"] >= s["strict_goal"]
    ]
    gaps = list({id(s["gap"]): s["gap"] for s in owned}.values())
    missed = [g for g in gaps if g["goal"] is not None and g["length"] > g["goal"]]
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
        **{why: sum(s["reason"] == why for s in mine) * step
           for why in ("unobserved", "excluded", "retired")},
    }  # fmt: skip


def gaps(rows, *, target=None, since=None, until=None, as_of=None, tz="UTC", step=QUARTER,
         schedule_tz="UTC", **terms):  # fmt: skip
    rows = prepared(rows, terms.get("policies", ()), target)
    as_of = as_of or speaks_for(rows)
    terms = Terms(as_of=as_of, step=step, tz=schedule_tz, **terms)
    ((_, begin, end),) = window(rows, as_of, since, until, None, tz, step)
    bare = [s for s in steps_of(rows, terms)
            if s["reason"] is None and s["gap"] and begin <= s["at"] < end]  # fmt: skip
    table = []
    for gap in {id(s["gap"]): s["gap"] for s in bare}.values():
        length, goal = gap["length"], gap["goal"]
        table.append({
            "backup_server": gap["row"]["backup_server"], "vm": gap["row"]["vm"],
            "policy": gap["row"]["policy"], "start": gap["start"], "end": gap["end"],
            "open": gap["end"] == as_of, "exposure": length,
            "breached": None if goal is None else max(length - goal, ZERO),
            "cause": cause(known_then(rows, as_of), gap, terms.protects),
        })  # fmt: skip
    return sorted(table, key=lambda g: (g["start"], g["backup_server"], g["vm"]))


def cause(rows, gap, protects):
    """Of the sessions that did not protect in a gap the one that ended last; with a reason, if any."""
    lost = [
        r for r in rows
        if (r["backup_server"], r["vm"]) == gap["vm"]
        and verdict(r) is not None and verdict(r) not in protects
        and r["created"] < gap["end"]
        and (r["ended"] > gap["start"] or r["created"] >= gap["start"])
    ]  # fmt: skip
    lost = [r for r in lost if r["reason"]] or lost
    newest = max(
        lost, default=None,
        key=lambda r: (r["ended"], r["created"], VERDICTS.index(verdict(r)), r["reason"] or ""),
    )  # fmt: skip
    if newest is None:
        return "no session"
    return verdict(newest) + (f": {newest['reason']}" if newest["reason"] else "")


def durations(rows, *, by=("policy", "vm"), since=None, until=None, as_of=None):
    rows = unique(rows)
    as_of = as_of or speaks_for(rows)
    periods = window(rows, as_of, since, until, None, "UTC", QUARTER)
    table = []
    for key in in_order({key_of(row, by) for row in rows}):
        begun = [
            row for row in known_then(rows, as_of)
            if key_of(row, by) == key and place(row["created"], periods) == 0
        ]  # fmt: skip
        done = [r for r in begun if is_finished(r)]
        going = [r for r in begun if r["state"] == "InProgress"]
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
          as_of=None, tz="UTC", step=QUARTER, schedule_tz="UTC", **terms):  # fmt: skip
    rows = prepared(rows, terms.get("policies", ()), None)
    as_of = as_of or speaks_for(rows)
    terms = Terms(as_of=as_of, step=step, tz=schedule_tz, **terms)
    periods = window(rows, as_of, since, until, freq, tz, step)
    gone = {}
    for s in steps_of(rows, terms) if terms.retire_after is not None else ():
        if s["gap"] and s["gap"]["end"] == as_of and s["gap"]["start"] is not None:
            since_then = s["gap"]["start"] + terms.retire_after
            if since_then < as_of:
                gone[s["vm"]] = since_then
    reaches = until is None or until > as_of
    there = known_then(rows, as_of)
    sized = [r for r in there if is_finished(r) and r["total_size"] is not None]
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
                    and place_end(r["ended"], periods, as_of, until) == number]  # fmt: skip
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
                    and place(r["created"], periods) == number for r in there
                ),
                "retired": retired,
            })  # fmt: skip
    return table
