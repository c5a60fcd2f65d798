"""Incidents once more, slow and plain: chains are grown one beginning at a time, chances are added up.

No NumPy, no pandas, no code shared. Gaps are those of `oracle.gaps`, with the breached time inside the window.
"""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from itertools import pairwise
from statistics import median

ZERO, DAY = dt.timedelta(0), dt.timedelta(days=1)


def incidents(gaps, observed, window, within, least, merge):
    """Rows of the table as dictionaries. `observed`: (server, VM) to the stretch it was observed in."""
    late = [gap for gap in gaps if gap["breached"]]
    episodes = [e for vm in {vm_of(g) for g in late} for e in merged(late, vm, merge)]
    episodes.sort(key=lambda e: (e[0]["backup_server"], e[0]["start"], e[0]["vm"]))
    rows = []
    for group in clusters(episodes, observed, window, within, least):
        mine = [gap for episode in group for gap in episode]
        if sum((gap["inside"] for gap in mine), ZERO):
            rows.append(row_of(mine, observed))
    whole = sum((row["breached"] for row in rows), ZERO)
    rows.sort(key=lambda row: (-row["breached"], row["start"]))
    return [row | {"explains": row["breached"] / whole} for row in rows]


def vm_of(gap):
    return gap["backup_server"], gap["vm"]


def merged(gaps, vm, merge):
    """The gaps of a VM in runs with less than `merge` of protection between them."""
    runs = []
    for gap in sorted((g for g in gaps if vm_of(g) == vm), key=lambda g: g["start"]):
        if runs and gap["start"] - runs[-1][-1]["end"] < merge:
            runs[-1].append(gap)
        else:
            runs.append([gap])
    return runs


def begin(episode):
    return episode[0]["start"]


def clusters(episodes, observed, window, within, least):
    """Lists of episodes: incidents of many, then each that is left by itself."""
    candidates = []
    for server in {e[0]["backup_server"] for e in episodes}:
        mine = [e for e in episodes if e[0]["backup_server"] == server]
        for chain in chains(mine, within):
            for part in cut(chain, within):
                if len({vm_of(e[0]) for e in part}) >= least:
                    candidates.append(part)
    kept = improbable(candidates, episodes, observed, window, within)
    joined = []
    for part in sorted(kept, key=lambda p: (begin(p[0]), p[0][0]["backup_server"])):
        server = part[0][0]["backup_server"]
        newest = joined[-1] if joined else None
        if (
            newest
            and begin(part[0]) - newest["newest"] <= within
            and server not in newest["servers"]
        ):
            newest["parts"] += part
            newest["servers"].add(server)
            newest["newest"] = begin(part[0])
        else:
            joined.append({"parts": list(part), "servers": {server}, "newest": begin(part[0])})
    taken = [id(e) for group in joined for e in group["parts"]]
    return [group["parts"] for group in joined] + [[e] for e in episodes if id(e) not in taken]


def chains(episodes, within):
    runs = []
    for episode in episodes:
        if runs and begin(episode) - begin(runs[-1][-1]) <= within:
            runs[-1].append(episode)
        else:
            runs.append([episode])
    return runs


def cut(chain, within):
    """A chain longer than three times `within` is cut at its widest step, and its parts likewise."""
    if begin(chain[-1]) - begin(chain[0]) <= 3 * within:
        return [chain]
    steps = [begin(b) - begin(a) for a, b in pairwise(chain)]
    at = steps.index(max(steps)) + 1
    return cut(chain[:at], within) + cut(chain[at:], within)


def improbable(candidates, episodes, observed, window, within):
    length = window[1] - window[0]
    limit = 0.001 / max(1, length / within)
    kept = list(candidates)
    while True:
        now = [
            part for part in kept if chance(part, kept, episodes, observed, length, within) < limit
        ]
        if len(now) == len(kept):
            return now
        kept = now


def chance(part, kept, episodes, observed, length, within):
    server = part[0][0]["backup_server"]
    total = sum(e[0]["backup_server"] == server for e in episodes)
    inside = sum(len(p) for p in kept if p[0][0]["backup_server"] == server)
    stretch = begin(part[-1]) - begin(part[0]) + within
    expected = (total - inside + 1) * (stretch / length)
    expected = max(expected, at_this_time(part, server, episodes, length, within))
    count = len({vm_of(e[0]) for e in part})
    if expected >= count:
        return 1.0
    machines = sum(vm[0] == server for vm in observed)
    share = expected / machines
    return sum(
        math.comb(machines, k) * share**k * (1 - share) ** (machines - k)
        for k in range(count, machines + 1)
    )


def at_this_time(part, server, episodes, length, within):
    """Beginnings at this time of day on the other days, per day."""
    others = length / DAY - 1
    if others < 1:
        return 0.0
    low, high = begin(part[0]) - within / 2, begin(part[-1]) + within / 2
    mine = [begin(e) for e in episodes if e[0]["backup_server"] == server]
    everywhere = 0
    for at in mine:
        shift = (low - at) % DAY
        everywhere += low + (-shift) % DAY <= high
    here = sum(low <= at <= high for at in mine)
    return (everywhere - here) / others


def row_of(gaps, observed):
    vms, servers = {vm_of(g) for g in gaps}, {g["backup_server"] for g in gaps}
    policies = {g["policy"] for g in gaps if g["policy"] is not None}
    start, end = min(g["start"] for g in gaps), max(g["end"] for g in gaps)
    causes = Counter(g["cause"] for g in gaps)
    cause = min(causes, key=lambda name: (-causes[name], name))
    there = sum(first < end and last > start for first, last in observed.values())
    return {
        "start": start, "end": end, "open": any(g["open"] for g in gaps),
        "scope": "VM" if len(vms) == 1 else "estate" if len(servers) > 1
        else "policy" if len(policies) <= 1 else "backup server",
        "vms": len(vms), "share": len(vms) / max(there, len(vms)),
        "breached": sum((g["inside"] for g in gaps), ZERO),
        "longest": max(g["exposure"] for g in gaps),
        "recovery": median(g["exposure"] for g in gaps),
        "cause": cause, "cause_share": causes[cause] / len(gaps),
    }  # fmt: skip
