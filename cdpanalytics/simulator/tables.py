"""What can be queried: the rows a snapshot holds of each kind, as columns by the vendor's field names."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import instants
from .estate import POLICY_STATES, RESULTS, TASK_STATES
from .fleet import Fleet, Snapshot
from .grammar import MISSING, Column, Enumeration, Identifiers, Instants, Numbers, Texts
from .guids import Guids

Rows = NDArray[np.intp]

_WORKING, _STOPPED = POLICY_STATES.index("Working"), POLICY_STATES.index("Stopped")
_IN_PROGRESS, _COMPLETED = TASK_STATES.index("InProgress"), TASK_STATES.index("Completed")


@dataclass(frozen=True)
class Table:
    """The rows of one kind at one instant: their positions in the fleet, GUIDs and columns."""

    rows: Rows
    guids: Guids
    columns: dict[str, Callable[[], Column]]
    visible: NDArray[np.bool_] | None = None


def task_sessions(fleet: Fleet, known: Snapshot, *, fraction: bool) -> Table:
    """Return the task sessions that the database holds."""
    task, parent = fleet.tasks, fleet.policy_sessions
    rows = np.arange(known.tasks.start, known.tasks.stop, dtype=np.intp)
    mine = task.policy_session[known.tasks].astype(np.intp)
    server = fleet.policy_server[parent.policy].astype(np.intp)
    vm = task.vm[known.tasks].astype(np.intp)
    running = task.ended[known.tasks] > known.collected_from(server[mine])
    reason = np.where(running, -1, task.reason[known.tasks]).astype(np.intp)
    created = task.created[known.tasks]
    guid = task.guid.take(known.tasks)
    every = np.arange(len(rows))

    def names() -> Texts:
        texts = instants.texts(created)
        labels = [
            f"{fleet.machines.name[number]}@{instants.label(text, fraction=fraction)}"
            for number, text in zip(vm.tolist(), texts, strict=True)
        ]
        return Texts(labels, every)

    columns: dict[str, Callable[[], Column]] = {
        "id": lambda: Identifiers(guid, every),
        "name": names,
        "policysessionuid": lambda: Identifiers(parent.guid, mine),
        "policysessionname": lambda: Texts(fleet.policy_session_names(fraction=fraction), mine),
        "backupserveruid": lambda: Identifiers(fleet.server_guid, server[mine]),
        "backupservername": lambda: Texts([one.name for one in fleet.servers], server[mine]),
        "creationtimeutc": lambda: Instants(created),
        "endtimeutc": lambda: Instants(np.where(running, MISSING, task.ended[known.tasks])),
        "state": lambda: Enumeration(TASK_STATES, np.where(running, _IN_PROGRESS, _COMPLETED)),
        "reason": lambda: Texts([*fleet.reasons, None], reason % (len(fleet.reasons) + 1)),
        "totalsize": lambda: Numbers(task.total_size[known.tasks]),
        "vmdisplayname": lambda: Texts(fleet.machines.name, vm),
    }
    return Table(rows, guid, columns, known.sees(created, server[mine]))


def policy_sessions(fleet: Fleet, known: Snapshot, *, fraction: bool) -> Table:
    """Return the policy sessions that the database holds."""
    session = fleet.policy_sessions
    here = known.policy_sessions
    rows = np.arange(here.start, here.stop, dtype=np.intp)
    policy = session.policy[here].astype(np.intp)
    server = fleet.policy_server[policy].astype(np.intp)
    running = session.ended[here] > known.collected_from(server)
    guid = session.guid.take(here)
    every = np.arange(len(rows))
    columns: dict[str, Callable[[], Column]] = {
        "id": lambda: Identifiers(guid, every),
        "name": lambda: Texts(fleet.policy_session_names(fraction=fraction), rows),
        "policyuid": lambda: Identifiers(fleet.policy_guid, policy),
        "policyname": lambda: Texts([one.name for one in fleet.policies], policy),
        "backupserveruid": lambda: Identifiers(fleet.server_guid, server),
        "backupservername": lambda: Texts([one.name for one in fleet.servers], server),
        "creationtimeutc": lambda: Instants(session.created[here]),
        "endtimeutc": lambda: Instants(np.where(running, MISSING, session.ended[here])),
        "state": lambda: Enumeration(POLICY_STATES, np.where(running, _WORKING, _STOPPED)),
        "result": lambda: Enumeration(
            RESULTS, np.where(running, 0, session.result[here]).astype(np.int64)
        ),
        "failuremessage": lambda: Texts([""], np.zeros(len(rows), dtype=np.intp)),
    }
    return Table(rows, guid, columns, known.sees(session.created[here], server))


def backup_servers(fleet: Fleet) -> Table:
    """Return the backup servers."""
    rows = np.arange(len(fleet.servers), dtype=np.intp)
    columns: dict[str, Callable[[], Column]] = {
        "id": lambda: Identifiers(fleet.server_guid, rows),
        "name": lambda: Texts([one.name for one in fleet.servers], rows),
    }
    return Table(rows, fleet.server_guid, columns)


def policies(fleet: Fleet, guid: Guids) -> Table:
    """Return the policies, or with the replicas' GUIDs their replica sets: one a policy."""
    rows = np.arange(len(fleet.policies), dtype=np.intp)
    server = fleet.policy_server.astype(np.intp)
    columns: dict[str, Callable[[], Column]] = {
        "id": lambda: Identifiers(guid, rows),
        "uid": lambda: Identifiers(guid, rows),
        "name": lambda: Texts([one.name for one in fleet.policies], rows),
        "policyuid": lambda: Identifiers(fleet.policy_guid, rows),
        "policyname": lambda: Texts([one.name for one in fleet.policies], rows),
        "backupserveruid": lambda: Identifiers(fleet.server_guid, server),
        "backupservername": lambda: Texts([one.name for one in fleet.servers], server),
    }
    return Table(rows, guid, columns)
