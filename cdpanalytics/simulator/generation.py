"""Generates a fleet from a seed: servers, policies, names and sizes around the policies' histories."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import guids, history, incidents, instants
from .estate import (
    Estate,
    Integers,
    Machines,
    PlantedGap,
    PlantedIncident,
    Policy,
    PolicySessions,
    Server,
    TaskSessions,
)
from .guids import Family
from .history import Calendar, Cast, Draft, Event, Plan
from .instants import DAY

_TAIL = 3
"""Days that the fleet lives on after its present."""

_GIB = 1 << 30
_MIB = 1 << 20

_HOSTILE_NAMES = ('a"b;c', "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "Zürich-Büro-数据库")
_TWIN_NAME = "print-server"
_ROLES = ("sql", "web", "app", "file", "mail", "erp", "vdi", "log")

_CATALOGUE = (
    Plan("Gold", timedelta(seconds=15), 8, timedelta(hours=4), 30),
    Plan("Silver", timedelta(minutes=5), 8, timedelta(hours=8), 24),
    Plan("Office hours", timedelta(minutes=60), 8, timedelta(hours=24), 20, forbidden=True),
    Plan("Bronze", timedelta(minutes=15), 24, timedelta(hours=12), 14),
    Plan("Databases", timedelta(seconds=30), 4, timedelta(minutes=90), 10),
    Plan("Payments", timedelta(seconds=15), 1, timedelta(hours=2), 2),
    Plan("Branch offices", timedelta(minutes=30), 12, timedelta(hours=8), 6),
    Plan("Virtual desktops", timedelta(minutes=2), 8, timedelta(hours=4), 6),
)

_OFFICE_DAY = tuple(6 <= hour < 22 for hour in range(24))
_OFFICE_WEEK = ((False,) * 24, *(_OFFICE_DAY,) * 5, (False,) * 24)
_EVERY_HOUR = ((True,) * 24,) * 7


class _Columns(NamedTuple):
    """All policies' task sessions, one after the other; `parent` counts their policy sessions likewise."""

    vm: Integers
    parent: Integers
    created: Integers
    ended: Integers
    result: Integers
    reason: Integers


def generate(
    *,
    vms: int,
    days: int,
    seed: int,
    until: datetime | None,
    servers: int,
    policies: int,
    vapp_policies: int,
    planted: int = 0,
    near_misses: bool = False,
) -> Estate:
    """Generate a fleet; `Fleet.generate` says how."""
    for name, count in (("vms", vms), ("days", days), ("servers", servers), ("policies", policies)):
        if count < 1:
            raise ValueError(f"{name}={count}; a fleet needs at least one")
    present = instants.from_datetime(until or datetime.now(UTC).replace(second=0, microsecond=0))
    calendar = Calendar(present - days * DAY, present, present + _TAIL * DAY)
    random = np.random.default_rng(seed)
    plans = [_plan(number) for number in range(min(policies, vms))]
    counts = _shares(vms, [plan.share for plan in plans])
    sites = _servers(seed, min(servers, len(plans)))
    order = random.permutation(vms).tolist()
    planned = _planned(seed, calendar, counts, len(sites), planted, near_misses)
    drafts = _drafts(random, calendar, plans, planned, len(sites), _cast(order))
    policy_of = np.repeat(np.arange(len(plans)), counts)
    vapps = range(max(0, len(plans) - vapp_policies), len(plans))
    names = _names(order, policy_of, len(sites), vapps)
    described = _policies(seed, plans, sites, names, counts, vapps)
    columns = _concatenate(drafts, counts)
    sessions, position = _policy_sessions(seed, drafts, columns)
    tasks = _task_sessions(seed, random, calendar, columns, position, vms)
    gaps = _gaps(drafts, described, present)
    return Estate(
        until=instants.to_datetime(present),
        servers=sites,
        policies=described,
        gaps=gaps,
        incidents=_incidents(gaps),
        reasons=history.REASONS,
        policy_server=(np.arange(len(plans)) % len(sites)).astype(np.int32),
        policy_guid=guids.derive(seed, Family.POLICY, len(plans)),
        replica_guid=guids.derive(seed, Family.REPLICA, len(plans)),
        server_guid=guids.derive(seed, Family.SERVER, len(sites)),
        machines=_machines(seed, names, policy_of, tasks),
        policy_sessions=sessions,
        tasks=tasks,
    )


def _plan(number: int) -> Plan:
    lap, place = divmod(number, len(_CATALOGUE))
    plan = _CATALOGUE[place]
    return plan._replace(name=f"{plan.name} {lap + 1}") if lap else plan


def _shares(total: int, weights: list[int]) -> list[int]:
    spare = total - len(weights)
    counts = [1 + spare * weight // sum(weights) for weight in weights]
    counts[0] += total - sum(counts)
    return counts


def _servers(seed: int, count: int) -> tuple[Server, ...]:
    uids, hosts, repositories = (
        guids.derive(seed, family, count).texts()
        for family in (Family.SERVER, Family.HOST, Family.REPOSITORY)
    )
    return tuple(
        Server(
            uids[number],
            f"vbr{number + 1:02}.tech.example",
            hosts[number],
            "Default Backup Repository",
            repositories[number],
        )
        for number in range(count)
    )


def _cast(order: list[int]) -> Cast:
    """Who plays what: the more VMs there are, the more parts."""
    needed = (2, 3, 4, 6, 8)
    return Cast(
        *(order[place] if len(order) >= least else -1 for place, least in enumerate(needed))
    )


def _drafts(
    random: np.random.Generator,
    calendar: Calendar,
    plans: list[Plan],
    planned: list[tuple[int, list[Event]]],
    sites: int,
    cast: Cast,
) -> list[Draft]:
    drafts: list[Draft] = []
    first = 0
    days = (calendar.until - calendar.start) // DAY
    for number, (plan, (count, events)) in enumerate(zip(plans, planned, strict=True)):
        made = history.draft(random, calendar, plan, count)
        if number == 0 and days >= 7:
            history.silence(made, int(0.3 * days))
        rows = Cast(*(vm - first if vm >= first else -1 for vm in cast))
        history.befall(random, calendar, made, rows, incident=number % sites == 0, planned=events)
        drafts.append(made)
        first += count
    return drafts


def _planned(
    seed: int, calendar: Calendar, counts: list[int], sites: int, planted: int, near_misses: bool
) -> list[tuple[int, list[Event]]]:
    """Return the number of VMs and the planned events of each policy.

    They have a random stream of their own: a fleet without them stays as it is.
    """
    random = np.random.default_rng([seed, 18])
    layout = incidents.Layout([number % sites for number in range(len(counts))], counts)
    events = incidents.plant(random, calendar, layout, planted)
    if near_misses:
        events[0] += incidents.near_misses(random, calendar, counts[0])
    return [(count, events[number]) for number, count in enumerate(counts)]


def _names(
    order: list[int], policy_of: NDArray[np.int64], sites: int, vapps: range
) -> tuple[str, ...]:
    width = len(str(len(order)))
    names = [
        f"{'vapp' if policy in vapps else _ROLES[policy % len(_ROLES)]}-{vm + 1:0{width}}"
        for vm, policy in enumerate(policy_of.tolist())
    ]
    hostile = (
        len(_HOSTILE_NAMES)
        if len(order) >= 12
        else min(len(_HOSTILE_NAMES), max(0, len(order) - 2))
    )
    for vm, name in zip(reversed(order), _HOSTILE_NAMES[:hostile], strict=False):
        names[vm] = name
    ordinary = order[len(Cast._fields) : len(order) - hostile]
    twins = {int(policy_of[vm]) % sites: vm for vm in reversed(ordinary)}
    if len(twins) > 1:
        names[twins[0]] = names[twins[1]] = _TWIN_NAME
    return tuple(names)


def _policies(
    seed: int,
    plans: list[Plan],
    sites: tuple[Server, ...],
    names: tuple[str, ...],
    counts: list[int],
    vapps: range,
) -> tuple[Policy, ...]:
    uids, replicas = (
        guids.derive(seed, family, len(plans)).texts() for family in (Family.POLICY, Family.REPLICA)
    )
    described = []
    for number, plan in enumerate(plans):
        site, first = sites[number % len(sites)], sum(counts[:number])
        described.append(
            Policy(
                uid=uids[number],
                name=plan.name,
                description=f"Created by {site.name.partition('.')[0].upper()}\\Administrator"
                if number
                else "",
                backup_server=site.name,
                backup_server_uid=site.uid,
                replica_uid=replicas[number],
                rpo=plan.rpo,
                rpo_schedule=_OFFICE_WEEK if plan.forbidden else _EVERY_HOUR,
                warning_after=2 * plan.rpo,
                failed_after=4 * plan.rpo,
                short_term_retention=plan.short_term,
                long_term_retention_hours=plan.long_term_hours,
                long_term_keep_days=7,
                application_aware=number % 2 == 0,
                vms=names[first : first + counts[number]],
                of_vapps=number in vapps,
            )
        )
    return tuple(described)


def _concatenate(drafts: list[Draft], counts: list[int]) -> _Columns:
    parts: list[_Columns] = []
    vm = parent = 0
    for made, count in zip(drafts, counts, strict=True):
        done = history.finish(made)
        parts.append(_Columns(done.row + vm, done.renewal + parent, *done[2:]))
        vm, parent = vm + count, parent + len(made.renewed) - 1
    return _Columns(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _policy_sessions(
    seed: int, drafts: list[Draft], columns: _Columns
) -> tuple[PolicySessions, Integers]:
    """The policy sessions by creation, each as good as its worst task session, and their places in that order."""
    policy = np.repeat(
        np.arange(len(drafts), dtype=np.int32), [len(made.renewed) - 1 for made in drafts]
    )
    created = np.concatenate([made.renewed[:-1] for made in drafts])
    ended = np.concatenate([made.renewed[1:] for made in drafts])
    result = np.full(len(policy), history.SUCCESS, dtype=np.int8)
    np.maximum.at(result, columns.parent, columns.result.astype(np.int8))
    if drafts[0].quiet is not None:
        result[drafts[0].quiet] = history.FAILED
    order = np.argsort(created, kind="stable")
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    uids = guids.derive(seed, Family.POLICY_SESSION, len(order))
    return PolicySessions(
        policy[order], created[order], ended[order], result[order], uids.take(order)
    ), position


def _task_sessions(
    seed: int,
    random: np.random.Generator,
    calendar: Calendar,
    columns: _Columns,
    position: Integers,
    vms: int,
) -> TaskSessions:
    order = np.argsort(columns.created, kind="stable")
    vm, created = columns.vm[order], columns.created[order]
    return TaskSessions(
        vm=vm.astype(np.int32),
        policy_session=position[columns.parent[order]].astype(np.int32),
        created=created,
        ended=columns.ended[order],
        result=columns.result[order].astype(np.int8),
        reason=columns.reason[order].astype(np.int8),
        total_size=_sizes(random, calendar, vm, created, vms),
        guid=guids.derive(seed, Family.TASK_SESSION, len(order)).take(order),
    )


def _sizes(
    random: np.random.Generator, calendar: Calendar, vm: Integers, created: Integers, vms: int
) -> Integers:
    """A level for each VM; some grow from day to day, some are given another disk at some instant."""
    level = np.clip(np.round(np.exp(random.normal(4.4, 1.0, vms))), 8, 4096).astype(np.int64) * _GIB
    daily = np.where(
        random.random(vms) < 0.4, random.uniform(0.0005, 0.004, vms) * level // _MIB, 0
    ).astype(np.int64)
    enlarged = np.where(
        random.random(vms) < 0.1,
        random.integers(calendar.start, calendar.end, vms),
        np.iinfo(np.int64).max,
    )
    grown = daily[vm] * ((created - calendar.start) // DAY) * _MIB
    return level[vm] + grown + (created >= enlarged[vm]) * (level[vm] // (4 * _GIB) * _GIB)


def _machines(
    seed: int, names: tuple[str, ...], policy_of: NDArray[np.int64], tasks: TaskSessions
) -> Machines:
    first = np.full(len(names), np.iinfo(np.int64).max, dtype=np.int64)
    np.minimum.at(first, tasks.vm, tasks.created)
    own, include = (
        guids.derive(seed, family, len(names)) for family in (Family.VM, Family.INCLUDE)
    )
    return Machines(names, policy_of.astype(np.int32), own, include, first)


def _gaps(
    drafts: list[Draft], policies: tuple[Policy, ...], present: int
) -> tuple[PlantedGap, ...]:
    return tuple(
        PlantedGap(
            backup_server=policy.backup_server,
            policy=policy.name,
            vm=policy.vms[gap.row],
            start=instants.to_datetime(gap.start),
            end=instants.to_datetime(min(gap.end, present)),
            open=gap.end > present,
            cause="no session" if gap.cause == history.NO_REASON else history.REASONS[gap.cause],
            incident=gap.incident if gap.incident >= 0 else None,
        )
        for made, policy in zip(drafts, policies, strict=True)
        for gap in sorted(made.gaps)
    )


def _incidents(gaps: tuple[PlantedGap, ...]) -> tuple[PlantedIncident, ...]:
    by_number: dict[int, list[PlantedGap]] = {}
    for gap in gaps:
        if gap.incident is not None:
            by_number.setdefault(gap.incident, []).append(gap)
    return tuple(
        PlantedIncident(
            number,
            incidents.kind_of(number),
            min(gap.start for gap in own),
            max(gap.end for gap in own),
            tuple(own),
        )
        for number, own in sorted(by_number.items())
    )
