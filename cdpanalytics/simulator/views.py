"""Resources of a fleet as the API shows them at an instant: rows of a page, single entities, intervals."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np

from . import guids, instants, render
from .estate import POLICY_STATES, RESULTS, Policy
from .fleet import Fleet, Snapshot
from .guids import Family
from .render import Entity, Link, TaskSession
from .tables import Rows

DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_HALF = 2


@dataclass(frozen=True)
class View:
    """A fleet as one server shows it: `base` is the address in its links, `fraction` how it dates names."""

    fleet: Fleet
    known: Snapshot
    base: str
    fraction: bool

    def tasks(self, rows: Rows) -> Iterator[TaskSession]:
        """Yield the task sessions at these positions of the fleet."""
        fleet, task, parent = self.fleet, self.fleet.tasks, self.fleet.policy_sessions
        parents = fleet.policy_session_names(fraction=self.fraction)
        created, ended = instants.texts(task.created[rows]), instants.texts(task.ended[rows])
        collected = self.known.collected_from(fleet.server_of_tasks(rows))
        running = (task.ended[rows] > collected).tolist()
        uids = task.guid.take(rows).texts()
        of = task.policy_session[rows]
        parent_uids = parent.guid.take(of.astype(np.intp)).texts()
        policies = parent.policy[of].tolist()
        columns = (task.vm[rows], of, task.result[rows], task.reason[rows], task.total_size[rows])
        facts = zip(*(column.tolist() for column in columns), strict=True)
        for number, (vm, session, result, reason, size) in enumerate(facts):
            policy, name, runs = (
                fleet.policies[policies[number]],
                fleet.machines.name[vm],
                running[number],
            )
            label = instants.label(created[number], fraction=self.fraction)
            yield TaskSession(
                uids[number], name, f"{name}@{label}", created[number],
                None if runs else ended[number],
                "InProgress" if runs else "Completed", "Success" if runs else RESULTS[result],
                None if runs or reason < 0 else fleet.reasons[reason], size,
                parent_uids[number], parents[session], policy.backup_server_uid, policy.backup_server,
            )  # fmt: skip

    def policy_session(self, row: int) -> Entity:
        """Return the policy session at this position of the fleet."""
        session, fleet = self.fleet.policy_sessions, self.fleet
        policy = fleet.policies[int(session.policy[row])]
        uid = session.guid.text(row)
        created, ended = instants.texts(np.array([session.created[row], session.ended[row]]))
        runs = session.ended[row] > self.known.collected
        name = f"{policy.name}@{instants.label(created, fraction=self.fraction)}"
        home = f"{self.base}/api/cdpReplicaSessions/{uid}"
        links = [
            self._server(policy),
            self._policy(policy),
            Link("Alternate", home, "CdpReplicaSessionReference", name),
            Link("Down", f"{home}/cdpReplicaTaskSessions", "CdpReplicaTaskSessionReferenceList"),
        ]
        fields = {
            "PolicyUid": f"urn:veeam:CdpPolicy:{policy.uid}",
            "PolicyName": policy.name,
            "PolicyType": "CdpReplica",
            "CreationTimeUTC": f"{created}Z",
            **({} if runs else {"EndTimeUTC": f"{ended}Z"}),
            "State": "Working" if runs else POLICY_STATES[-1],
            "Result": "None" if runs else RESULTS[int(session.result[row])],
            "Progress": 0,
            "FailureMessage": "",
            "IsRetry": False,
        }
        return Entity("CdpPolicySession", "CdpReplicaSession", f"{home}?format=Entity", name,
                      f"urn:veeam:CdpReplicaSession:{uid}", links, fields)  # fmt: skip

    def policy(self, row: int) -> Entity:
        """Return a policy with its settings."""
        policy = self.fleet.policies[row]
        home = f"{self.base}/api/cdpPolicies/{policy.uid}"
        links = [
            self._server(policy),
            Link("Alternate", home, "CdpPolicyReference", policy.name),
            Link("Edit", home, "CdpPolicyReference", policy.name),
            Link("Down", f"{home}/includes", "ObjectInJobList"),
            Link("Create", f"{home}/includes", "ObjectInJob"),
            Link("Down", f"{home}/cdpReplicaSessions", "CdpReplicaSessionReferenceList"),
            Link("Disable", f"{home}?action=disable"),
        ]
        fields = {
            "PolicyType": "CdpReplica",
            "Platform": "VMware",
            "Description": policy.description,
            "ScheduleConfigured": True,
            "ScheduleEnabled": True,
            "NextRun": f"{self.fleet.until:%Y-%m-%dT%H:%M:%S}Z",
            "PolicyScheduleOptions": {"CdpReplica": _schedule(policy)},
            "CdpPolicyInfo": {"CdpReplicaPolicyInfo": self._includes(policy, row)},
        }
        return Entity("CdpPolicy", "CdpPolicy", f"{home}?format=Entity", policy.name,
                      f"urn:veeam:CdpPolicy:{policy.uid}", links, fields)  # fmt: skip

    def replica(self, row: int) -> Entity:
        """Return a policy's replica set."""
        policy = self.fleet.policies[row]
        home = f"{self.base}/api/cdpReplicas/{policy.replica_uid}"
        links = [
            self._server(policy),
            Link("Down", f"{home}/vms", "CdpReplicaVmReferenceList"),
            self._policy(policy),
            Link("Alternate", home, "CdpReplicaReference", policy.name),
        ]
        fields = _owned(policy)
        return Entity("CdpReplica", "CdpReplica", f"{home}?format=Entity", policy.name,
                      f"urn:veeam:CdpReplica:{policy.replica_uid}", links, fields)  # fmt: skip

    def backup_server(self, row: int) -> Entity:
        """Return a backup server."""
        server = self.fleet.servers[row]
        home = f"{self.base}/api/backupServers/{server.uid}"
        links = [Link("Alternate", home, "BackupServerReference", server.name)]
        fields = {
            "Description": "",
            "Port": 443 if self.fraction else 9392,
            "Version": "13.0.1.2067" if self.fraction else "12.3.2.4465",
            "WcfPort": 9405,
            "VbrCertificateThumbprint": hashlib.sha1(server.uid.encode()).hexdigest().upper(),  # noqa: S324
        }
        return Entity("BackupServer", "BackupServer", f"{home}?format=Entity", server.name,
                      f"urn:veeam:BackupServer:{server.uid}", links, fields)  # fmt: skip

    def replica_vms(self, row: int) -> list[tuple[int, Entity]]:
        """Return the VMs of a policy's replica set, with their numbers in the fleet."""
        if self.fleet.policies[row].of_vapps:
            return []
        machines = np.flatnonzero(self.fleet.machines.policy == row).tolist()
        return [(vm, self._replica_vm(row, vm)) for vm in machines]

    def vapps(self) -> list[tuple[int, Entity]]:
        """Return the vApps that are replicated, with their numbers in the fleet."""
        policy_of = self.fleet.machines.policy.tolist()
        return [(vapp, self._vapp(row, vapp)) for vapp, row in enumerate(policy_of)
                if self.fleet.policies[row].of_vapps]  # fmt: skip

    def intervals(self, vm: int, start: datetime, end: datetime, now: datetime) -> dict[str, Any]:
        """Return what of ``[start, end]`` a VM can be restored to, as far back as short-term retention."""
        fleet, task = self.fleet, self.fleet.tasks
        policy = fleet.policies[int(fleet.machines.policy[vm])]
        low = max(
            instants.from_datetime(start), instants.from_datetime(now - policy.short_term_retention)
        )
        high = min(instants.from_datetime(end), self.known.collected)
        mine = np.flatnonzero((task.vm == vm) & (task.result != RESULTS.index("Failed")))
        spans = [
            (max(int(task.created[row]), low), min(int(task.ended[row]), high))
            for row in mine.tolist()
        ]
        found = _merged([span for span in spans if span[1] - span[0] >= instants.SECOND])
        points = [int(task.ended[row]) for row in mine.tolist() if low <= task.ended[row] <= high]
        uids = guids.derive(vm, Family.RESTORE_POINT, len(points)).texts()
        return {
            "StartDate": f"{start:%Y-%m-%dT%H:%M:%S}",
            "EndDate": f"{end:%Y-%m-%dT%H:%M:%S}",
            "HasApplicationConsistentState": bool(points) and policy.application_aware,
            "Intervals": [("Interval", part) for span in found for part in _grained(span, policy)],
            "RestorePoints": [
                ("RestorePoint", {"Id": uid, "Date": instants.whole_seconds(point),
                                  "IsApplicationConsistent": policy.application_aware})
                for uid, point in zip(uids, points, strict=True)
            ],
        }  # fmt: skip

    def _replica_vm(self, row: int, vm: int) -> Entity:
        fleet, policy = self.fleet, self.fleet.policies[row]
        uid = fleet.machines.guid.text(vm)
        server = fleet.servers[int(fleet.policy_server[row])]
        home = f"{self.base}/api/cdpReplicas/{policy.replica_uid}/vms/{uid}"
        links = [
            Link("Intervals", f"{home}?action=intervals"),
            Link("Failover", f"{home}?action=failover"),
            self._server(policy),
            Link("Up", f"{self.base}/api/repositories/{server.repository_uid}", "RepositoryReference",
                 server.repository),
            Link("Up", f"{self.base}/api/cdpReplicas/{policy.replica_uid}", "CdpReplicaReference",
                 policy.name),
            self._policy(policy),
        ]  # fmt: skip
        fields = {
            "VmRef": f"urn:VMware:Vm:{server.host_uid}.vm-{vm + 1}",
            "ReplicaUid": policy.replica_uid,
            **_owned(policy),
            "RepositoryName": server.repository,
        }
        return Entity("CdpReplicaVm", "CdpReplicaVm", f"{home}?format=Entity", fleet.machines.name[vm],
                      f"urn:veeam:CdpReplicaVm:{uid}", links, fields)  # fmt: skip

    def _vapp(self, row: int, vapp: int) -> Entity:
        fleet, policy = self.fleet, self.fleet.policies[row]
        uid = fleet.machines.guid.text(vapp)
        name, host = (
            fleet.machines.name[vapp],
            fleet.servers[int(fleet.policy_server[row])].host_uid,
        )
        home = f"{self.base}/api/cdpReplica/vApps/{uid}"
        links = [
            self._server(policy),
            Link("Alternate", home, "VAppCdpReplicaReference", name),
            Link("Down", f"{home}/vms", "VAppCdpReplicaVmReferenceList"),
            Link("Intervals", f"{home}?action=intervals"),
            Link("Failover", f"{home}?action=failover"),
            self._policy(policy),
        ]  # fmt: skip
        fields = {
            "vAppRef": f"urn:vCloud:Vapp:{host}.urn:vcloud:vapp:{uid}",
            "ReplicaUid": uid,
            **_owned(policy),
        }
        return Entity("VAppCdpReplica", "VAppCdpReplica", f"{home}?format=Entity", name,
                      f"urn:veeam:VAppCdpReplica:{uid}", links, fields)  # fmt: skip

    def _policy(self, policy: Policy) -> Link:
        address = f"{self.base}/api/cdpPolicies/{policy.uid}"
        return Link("Up", address, "CdpPolicyReference", policy.name)

    def _server(self, policy: Policy) -> Link:
        address = f"{self.base}/api/backupServers/{policy.backup_server_uid}"
        return Link("Up", address, "BackupServerReference", policy.backup_server)

    def _includes(self, policy: Policy, row: int) -> dict[str, Any]:
        fleet = self.fleet
        server = fleet.servers[int(fleet.policy_server[row])]
        machines = np.flatnonzero(fleet.machines.policy == row)
        uids = fleet.machines.include.take(machines).texts()
        home = f"{self.base}/api/cdpPolicies/{policy.uid}/includes"
        included = [
            ("ObjectInJob", {
                "@Type": "ObjectInJob",
                "@Href": f"{home}/{uid}",
                "ObjectInJobId": uid,
                "HierarchyObjRef": f"urn:VMware:Vm:{server.host_uid}.vm-{vm + 1}",
                "Name": fleet.machines.name[vm],
                "DisplayName": fleet.machines.name[vm],
                "GuestProcessingOptions": _guest("RequireSuccess", policy.application_aware),
            })
            for vm, uid in zip(machines.tolist(), uids, strict=True)
        ]  # fmt: skip
        return {"Includes": included, "GuestProcessingOptions": _guest("Disabled", True)}


def references(entities: Sequence[Entity], *, as_json: bool, version: int) -> str:
    """Return references to entities: names, identifiers and links, without their fields."""
    bare = [
        Entity(
            "Ref", f"{one.kind}Reference", one.href.partition("?")[0], one.name, one.uid, one.links
        )
        for one in entities
    ]
    if not as_json:
        return "".join(render.entity_xml(one) for one in bare)
    trees = [
        {"Links": render.links_json(one.links), "UID": one.uid, "Name": one.name, "Href": one.href,
         "Type": one.kind} for one in bare
    ]  # fmt: skip
    return ",".join(render.json_text(tree, version) for tree in trees)


def task_reference(session: TaskSession, base: str) -> Entity:
    """Return a task session as an entity without its fields: what a reference to it needs."""
    home = f"{base}/api/cdpReplicaTaskSessions/{session.uid}"
    links = [
        Link("Up", f"{base}/api/backupServers/{session.server}", "BackupServerReference",
             session.server_name),
        Link("Up", f"{base}/api/cdpReplicaSessions/{session.parent}", "CdpReplicaSessionReference",
             session.parent_name),
        Link("Alternate", f"{home}?format=Entity", "CdpReplicaTaskSession", session.name),
    ]  # fmt: skip
    return Entity("CdpReplicaTaskSession", "CdpReplicaTaskSession", home, session.name,
                  f"urn:veeam:CdpReplicaTaskSession:{session.uid}", links)  # fmt: skip


def _owned(policy: Policy) -> dict[str, Any]:
    """The fields by which what a policy replicates says whose it is."""
    return {
        "BackupServer": policy.backup_server,
        "PolicyUid": policy.uid,
        "PolicyName": policy.name,
    }


def _schedule(policy: Policy) -> dict[str, Any]:
    seconds = int(policy.rpo.total_seconds())
    minutes, seconds = divmod(seconds, 60) if seconds % 60 == 0 else (0, seconds)
    hours, rest = divmod(int(policy.short_term_retention.total_seconds()), 3600)
    return {
        "RecoveryPointObjectiveSeconds": seconds,
        "RecoveryPointObjectiveMinutes": minutes,
        "RPOSchedule": _week(
            [["1" if hour else "0" for hour in day] for day in policy.rpo_schedule]
        ),
        "RPOReporting": {
            "MarkAsWarning": _threshold(policy.warning_after),
            "MarkAsFailed": _threshold(policy.failed_after),
        },
        "ShortTermRetentionMinutes": rest // 60,
        "ShortTermRetentionHours": hours,
        "LongTermRetentionHours": policy.long_term_retention_hours,
        "LongTermRetentionKeepDays": policy.long_term_keep_days,
        "LongTermRetentionSchedule": _week([["2"] * 24] * 7),
    }


def _week(hours: Sequence[Sequence[str]]) -> dict[str, Any]:
    days = [
        ("Day", {"@Name": day, "#": ",".join(marks)})
        for day, marks in zip(DAYS, hours, strict=True)
    ]
    return {"@Enabled": True, "TimePeriods": days}


def _threshold(after: timedelta) -> dict[str, Any]:
    minutes, seconds = divmod(int(after.total_seconds()), 60)
    return {"Enabled": True, "RPOThresholdSeconds": seconds, "RPOThresholdMinutes": minutes}


def _guest(mode: str, copy_only: bool) -> dict[str, Any]:
    return {
        "VssSnapshotOptions": {"VssSnapshotMode": mode, "IsCopyOnly": copy_only},
        "WindowsCredentialsId": "",
        "LinuxCredentialsId": "",
    }


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join spans less than two seconds apart: a handover does not interrupt what can be restored."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start - joined[-1][1] < 2 * instants.SECOND:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _grained(span: tuple[int, int], policy: Policy) -> list[dict[str, Any]]:
    """Cut a span as the server does: short intervals at its ends, the policy's own RPO between."""
    seconds = (span[1] - span[0]) // instants.SECOND
    edge = max(1, int(policy.rpo.total_seconds()) // _HALF)
    cuts = [0, edge, seconds - edge, seconds] if seconds > 3 * edge else [0, seconds]
    parts = []
    for left, right in pairwise(cuts):
        rpo = min(right - left, int(policy.rpo.total_seconds()))
        start, end = (span[0] + cut * instants.SECOND for cut in (left, right))
        parts.append({"StartDate": instants.whole_seconds(start), "EndDate": instants.whole_seconds(end),
                      "Rpo": rpo, "IntervalType": "RestoreAvailable"})  # fmt: skip
    return parts
