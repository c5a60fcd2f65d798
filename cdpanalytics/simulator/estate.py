"""What really happened on a simulated estate, in columns; how it came about is not its business."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from .guids import Guids

RESULTS = ("None", "Success", "Warning", "Failed")
TASK_STATES = ("InProgress", "Pending", "Completed")
POLICY_STATES = ("Starting", "Stopping", "Working", "Pausing", "Resuming", "Stopped")

Integers = NDArray[np.int64]
Rows = NDArray[np.intp] | slice


@dataclass(frozen=True, slots=True)
class Server:
    """A backup server connected to Enterprise Manager."""

    uid: str
    name: str
    host_uid: str
    repository: str
    repository_uid: str


@dataclass(frozen=True, slots=True)
class Policy:
    """A CDP policy and its settings.

    `rpo_schedule` holds seven days of 24 hours, Sunday first; ``False`` is an hour in which the policy may not run.
    `vms` are the included virtual machines, whether or not they were ever processed; with `of_vapps` they
    are vApps of Cloud Director, each a replica of its own.
    """

    uid: str
    name: str
    description: str
    backup_server: str
    backup_server_uid: str
    replica_uid: str
    rpo: timedelta
    rpo_schedule: tuple[tuple[bool, ...], ...]
    warning_after: timedelta
    failed_after: timedelta
    short_term_retention: timedelta
    long_term_retention_hours: int
    long_term_keep_days: int
    application_aware: bool
    vms: tuple[str, ...]
    of_vapps: bool = False


@dataclass(frozen=True, slots=True)
class PlantedGap:
    """A stretch in which a VM was not protected: no span of a session of its that did not fail.

    `cause` is the reason of the newest session that failed in it, or ``"no session"``.
    `incident` is the number of the planted incident that made it, None where none did.
    An `open` gap was still going at the fleet's `until`, which is then its end.
    """

    backup_server: str
    policy: str
    vm: str
    start: datetime
    end: datetime
    open: bool
    cause: str
    incident: int | None = None


@dataclass(frozen=True, slots=True)
class PlantedIncident:
    """An incident of the truth: what broke, and the gaps that it made.

    `kind` is "backup server", "datastore", "proxy" or "network".
    """

    incident: int
    kind: str
    start: datetime
    end: datetime
    gaps: tuple[PlantedGap, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Machines:
    """The virtual machines, one a position, in the order of the policies that include them."""

    name: tuple[str, ...]
    policy: NDArray[np.int32]
    guid: Guids
    include: Guids
    first_created: Integers


@dataclass(frozen=True, slots=True, eq=False)
class PolicySessions:
    """All policy sessions, in the order of their creation."""

    policy: NDArray[np.int32]
    created: Integers
    ended: Integers
    result: NDArray[np.int8]
    guid: Guids


@dataclass(frozen=True, slots=True, eq=False)
class TaskSessions:
    """All task sessions, in the order of their creation. `reason` counts in `Fleet.reasons`, -1 where there is none."""

    vm: NDArray[np.int32]
    policy_session: NDArray[np.int32]
    created: Integers
    ended: Integers
    result: NDArray[np.int8]
    reason: NDArray[np.int8]
    total_size: Integers
    guid: Guids


@dataclass(frozen=True, slots=True, eq=False)
class Estate:
    """Backup servers, policies, VMs and all their sessions, up to three days after `until`."""

    until: datetime
    servers: tuple[Server, ...]
    policies: tuple[Policy, ...]
    gaps: tuple[PlantedGap, ...]
    incidents: tuple[PlantedIncident, ...]
    reasons: tuple[str, ...]
    policy_server: NDArray[np.int32]
    policy_guid: Guids
    replica_guid: Guids
    server_guid: Guids
    machines: Machines
    policy_sessions: PolicySessions
    tasks: TaskSessions
