"""The slow oracle of status, recovery points and objectives, made of the walk of `oracle`."""

from __future__ import annotations

from fractions import Fraction

from . import oracle
from .oracle import QUARTER, ZERO, is_closed, key_of, verdict

ORDER = (
    "breached", "exposed", "unknown", "never seen", "retired", "excluded", "off schedule", "protected",
)  # fmt: skip


# -- status ----------------------------------------------------------------------------


def status(rows, *, at=None, target=None, since=None, until=None, as_of=None, tz="UTC",
           step=QUARTER, schedule_tz="UTC", **terms):  # fmt: skip
    policies = terms.get("policies", ())
    rows = oracle.prepared(rows, policies, target)
    now = as_of or oracle.speaks_for(rows)
    if at is None:
        at = now if until is None else min(now, until)
    # What was known at the instant, and one step more of its time.
    then = oracle.known_then(rows, at)
    terms = oracle.Terms(as_of=at + step, step=step, tz=schedule_tz, **terms)
    table, seen = [], set()
    for vm, own in oracle.vms_of(then).items():
        attempts = [row for row in own if row["state"] != "Pending"]
        seen.add(vm)
        if attempts:
            table.append(state_of(vm, own, attempts, terms, at, since))
        else:
            table.append(never(own[0], terms, at, vm))
    for policy in policies:
        for name in policy["vms"]:
            vm = (policy["backup_server"], name)
            if vm not in seen:
                seen.add(vm)
                table.append(never({**policy, "vm": name}, terms, at, vm))
    return sorted(table, key=lambda row: (
        ORDER.index(row["state"]), -(row["age"] if row["age"] is not None else -step),
        row["backup_server"], row["vm"],
    ))  # fmt: skip


def never(row, terms, at, vm):
    excluded = is_closed(terms.exclude, row, at)
    return {"backup_server": vm[0], "vm": vm[1], "state": "excluded" if excluded else "never seen",
            "since": None, "age": None, "target": None, "last_success": None,
            "last_result": None, "at": at}  # fmt: skip


def state_of(vm, own, attempts, terms, at, since):
    step = terms.step
    spans = oracle.protecting(own, at + step, terms.protects, terms.holes)
    dark = oracle.darkness(own, spans, at + step, terms.holes, terms.policies)
    unretired = oracle.Terms(
        as_of=at + step, schedule=terms.schedule, tz=terms.tz, protects=terms.protects,
        policies=terms.policies, step=step, holes=terms.holes, exclude=terms.exclude, grace=terms.grace,
    )  # fmt: skip
    walked = oracle.walk(vm, own, attempts, unretired)
    first = walked[0]["at"]
    now = walked[-1]
    assert now["at"] == at
    protected_from = min([s[0] for s in spans], default=at + step)
    grace_ends = min(first + (terms.grace or ZERO), protected_from)

    def covered(instant):
        return any(a <= instant and (b > instant or (instant == at and b == at))
                   for a, b, _ in spans)  # fmt: skip

    def excluded(s):
        return s["at"] < grace_ends or is_closed(terms.exclude, s["row"], s["at"])

    def goal_of(s):
        gap = s["gap"]
        return gap["goal"] if gap and gap["row"] is not None else s["row"]["_goal"]

    def judge(s):
        runs_on = any(a <= s["at"] < b for a, b, _ in spans)
        if any(a <= s["at"] < b for a, b in dark) and not runs_on:
            return "unknown"
        if excluded(s):
            return "excluded"
        if covered(s["at"]):
            return "protected"
        if goal_of(s) is None:
            return "exposed"
        # Within a step the gap goes on to age: at its last instant it is nearly a step older.
        late = s["age"] >= goal_of(s) if s is now else s["age"] + step > goal_of(s)
        return "breached" if late else "exposed"

    state, decides = judge(now), now
    if state not in ("unknown", "excluded") and not terms.scheduled(now["row"], at):
        scheduled = [s for s in walked[:-1] if terms.scheduled(s["row"], s["at"])]
        earlier = judge(scheduled[-1]) if scheduled else "protected"
        if earlier == "protected":
            state = "off schedule"
        elif not covered(at):
            state, decides = earlier, scheduled[-1]
    gone = None
    if terms.retire_after is not None and not covered(at) and now["gap"]["start"] is not None:
        gone = now["gap"]["start"] + terms.retire_after
        state = "retired" if gone <= at else state
    age = ZERO
    if state == "unknown":
        age = None
    elif not covered(at):
        # Where cover ended with the last scheduled instant, nothing is observed since.
        age = decides["age"] or ZERO
        if decides is not now and decides["reason"] is None:
            age += step
    goal = now["row"]["_goal"] if covered(at) else goal_of(decides)
    done = [r for r in own if verdict(r) is not None]
    last = max(
        done,
        default=None,
        key=lambda r: (r["ended"], r["created"], oracle.VERDICTS.index(verdict(r))),
    )
    return {
        "backup_server": vm[0], "vm": vm[1], "policy": now["row"]["policy"], "state": state,
        "since": gone if state == "retired"
        else since_of(state, decides, walked, spans, dark, excluded, terms, since),
        "age": age, "target": goal,
        "last_success": max([r["ended"] for r in done if verdict(r) == "Success"], default=None),
        "last_result": last and verdict(last), "at": at,
    }  # fmt: skip


def since_of(state, decides, walked, spans, dark, excluded, terms, since):
    if state in ("exposed", "breached"):
        return decides["gap"]["start"]
    if state == "protected":
        begun = sorted(s[0] for s in spans)
        cover = begun[0]
        for begin in begun:
            if begin > max(s[1] for s in spans if s[0] < begin or s[0] == begun[0]):
                cover = begin
        return max(cover, since) if since else cover
    if state == "unknown":
        at = decides["at"]
        for start, stop in sorted(dark, reverse=True):
            if start < stop and start <= at <= stop:
                at = start
        return max(at, walked[0]["at"])
    # Excluded or off schedule: back to where the clock of the one whose time it is last ran.
    at = decides["at"]
    for s in reversed([s for s in walked if s["at"] < decides["at"]]):
        mine = {**s, "row": decides["row"]}
        if terms.scheduled(mine["row"], s["at"]) and not excluded(mine):
            break
        at = s["at"]
    return at


# -- recovery points -------------------------------------------------------------------


def recovery_points(rows, at, target=None):
    table = []
    for vm, own in oracle.vms_of(rows).items():
        asked = any(r["kind"] == "Asked" and r["start"] <= at <= r["end"] for r in own)
        held = [r for r in own if r["kind"] != "Asked" and r["start"] <= at]
        inside = [r for r in held if r["end"] >= at and r["rpo"] is not None]
        before = [r for r in held if r["end"] < at]
        point = achieved = None
        if inside:
            achieved = max(r["rpo"] for r in inside)
            point = at - achieved
        elif before:
            newest = max(before, key=lambda r: (r["end"], r["rpo"] is not None, r["rpo"] or ZERO))
            point, achieved = newest["end"], newest["rpo"]
        if not asked:
            point = achieved = None
        age = None if point is None else at - point
        within = None if target is None or not asked else age is not None and age <= target
        table.append({"backup_server": vm[0], "vm": vm[1], "recovery_point": point, "age": age,
                      "achieved": achieved, "within": within, "asked": asked})  # fmt: skip
    return sorted(table, key=lambda r: (
        not r["asked"], r["age"] is not None, -(r["age"] or ZERO), r["backup_server"], r["vm"]
    ))  # fmt: skip


# -- objectives ------------------------------------------------------------------------


def objectives(rows, objective, *, target=None, by=("policy", "vm"), since=None, until=None,
               as_of=None, freq=None, tz="UTC", step=QUARTER, schedule_tz="UTC", **terms):  # fmt: skip
    """Whether each group met its objective, how many VMs did, and when all were within."""
    allowed = 1 - Fraction(str(objective))
    policies = terms.get("policies", ())
    rows = oracle.prepared(rows, policies, target)
    as_of = as_of or oracle.speaks_for(rows)
    terms = oracle.Terms(as_of=as_of, step=step, tz=schedule_tz, **terms)
    periods = oracle.window(rows, as_of, since, until, freq, tz, step)
    steps = oracle.steps_of(rows, terms)
    listed = [{"backup_server": p["backup_server"], "policy": p["policy"], "vm": vm}
              for p in policies for vm in p["vms"]]  # fmt: skip
    attempted = {(r["backup_server"], r["vm"]) for r in oracle.known_then(rows, as_of)
                 if r["state"] != "Pending"}  # fmt: skip
    table = []
    for key in oracle.in_order({key_of(row, by) for row in [*rows, *listed]}):
        for _, begin, end in periods:
            mine = [s for s in steps if key_of(s["row"], by) == key and begin <= s["at"] < end]
            last = end - step
            undecided = {s["vm"] for s in mine if s["at"] == last and s["dark"]
                         and not s["after_retirement"]}  # fmt: skip
            unseen = {
                (r["backup_server"], r["vm"]) for r in listed
                if key_of(r, by) == key and (r["backup_server"], r["vm"]) not in attempted
                and not is_closed(terms.exclude, r, last)
            }  # fmt: skip
            table.append(
                dict(zip(by, key, strict=True)) | promised(mine, undecided, unseen, allowed, step)
            )
    return table


def promised(mine, undecided, unseen, allowed, step):
    seen = [s for s in mine if s["reason"] is None]
    aimless = {s["vm"] for s in seen if oracle.goal_of(s) is None}
    seen = [s for s in seen if s["vm"] not in aimless]

    def is_late(s):
        return bool(s["gap"]) and s["age"] >= oracle.goal_of(s)

    def passed(some, unknown):
        if not some:
            return None
        late = sum(map(is_late, some))
        if late > allowed * len(some):
            return False
        return None if unknown else True

    unknown = (undecided - aimless) | unseen
    vms = {s["vm"] for s in seen}
    met = [vm for vm in vms if passed([s for s in seen if s["vm"] == vm], vm in unknown)]
    instants = {s["at"] for s in seen}
    late = {s["at"] for s in seen if is_late(s)}
    return {
        "observed": len(seen) * step, "passed": passed(seen, unknown),
        "spent": sum(map(is_late, seen)) * step if seen else None,
        "vms_met": len(met), "no_target": len(aimless), "undecided": len(unknown),
        "all_protected": 1 - len(late) / len(instants) if instants else None,
    }  # fmt: skip
