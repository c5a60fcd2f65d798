"""The kinds that can be queried: what lists them, their rows, and one entity of each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from . import tables
from .fleet import Fleet, Snapshot
from .render import Entity
from .tables import Table
from .views import View


@dataclass(frozen=True)
class Kind:
    """A kind of entity, as a query and a resource of its own name it.

    Attributes
    ----------
    name, plural : str
        Of a query's ``type``; of its list, and of the resource ``/api/PLURAL/GUID``.
    table : callable
        The rows of a snapshot. Its last argument says whether names are dated with a fraction.
    entity : callable, optional
        The entity at a position of the fleet. None for task sessions, which templates write:
        a page has too many for an object each.
    """

    name: str
    plural: str
    table: Callable[[Fleet, Snapshot, bool], Table]
    entity: Callable[[View, int], Entity] | None


KINDS: Final = (
    Kind(
        "CdpReplicaTaskSession",
        "CdpReplicaTaskSessions",
        lambda fleet, known, fraction: tables.task_sessions(fleet, known, fraction=fraction),
        None,
    ),
    Kind(
        "CdpReplicaSession",
        "CdpReplicaSessions",
        lambda fleet, known, fraction: tables.policy_sessions(fleet, known, fraction=fraction),
        View.policy_session,
    ),
    Kind(
        "CdpPolicy",
        "CdpPolicies",
        lambda fleet, *_: tables.policies(fleet, fleet.policy_guid),
        View.policy,
    ),
    Kind(
        "CdpReplica",
        "CdpReplicas",
        lambda fleet, *_: tables.policies(fleet, fleet.replica_guid),
        View.replica,
    ),
    Kind(
        "BackupServer",
        "BackupServers",
        lambda fleet, *_: tables.backup_servers(fleet),
        View.backup_server,
    ),
)

BY_NAME: Final = {kind.name.casefold(): kind for kind in KINDS}
BY_PLURAL: Final = {kind.plural.casefold(): kind for kind in KINDS}
