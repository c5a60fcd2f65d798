"""The simulated fleet: an estate made from a seed, and what the server's database holds of it at an instant."""

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import instants
from .estate import RESULTS, Estate, Integers, Rows
from .generation import generate

LAG = timedelta(minutes=15)
"""How often Enterprise Manager collects data from its backup servers."""

HORIZON = timedelta(weeks=13)
"""How long Enterprise Manager keeps session history."""


class Snapshot(NamedTuple):
    """What the database holds: its newest collection, and the rows of either kind of session it knows.

    Where some backup servers are not collected, `by_server` has the newest collection of each;
    `hidden` are those that the account may not see.
    """

    collected: int
    tasks: slice
    policy_sessions: slice
    by_server: tuple[int, ...] | None = None
    hidden: tuple[int, ...] = ()

    def collected_from(self, server: Integers) -> Integers:
        """Return the newest collection from each of these backup servers."""
        if self.by_server is None:
            return np.full(len(server), self.collected)
        return np.asarray(self.by_server, dtype=np.int64)[server]

    def sees(self, created: Integers, server: Integers) -> NDArray[np.bool_]:
        """Return which sessions of these backup servers the account finds in the database."""
        return (created <= self.collected_from(server)) & ~np.isin(server, self.hidden)


@dataclass(frozen=True, slots=True, eq=False)
class Fleet(Estate):
    """Backup servers, policies, VMs and all their sessions, generated from a seed.

    Make one with `Fleet.generate`. It lives on for three days after `until`, so that a clock can be moved on.
    """

    @staticmethod
    def generate(
        *,
        vms: int = 60,
        days: int = 30,
        seed: int = 1,
        until: datetime | None = None,
        servers: int = 2,
        policies: int = 6,
        vapp_policies: int = 0,
        incidents: int = 0,
        near_misses: bool = False,
    ) -> "Fleet":
        """Generate a fleet; the same arguments give the same fleet, bit for bit, in every process.

        Parameters
        ----------
        vms, servers, policies
            How many of each. There are never more policies than VMs, nor more servers than policies.
        days
            How far the history reaches back from `until`.
        seed
            Chooses everything that is left to chance.
        until
            The present of the fleet, an aware datetime. Default: now, rounded down to the minute.
        vapp_policies
            How many of the policies, counted from the last, replicate vApps in place of VMs.
        incidents
            How many incidents to plant besides the storage outage that each fleet has; `incidents`
            of the fleet lists them all.
        near_misses
            Also plant gaps that begin together at midnight on every day, and at full hours by chance.

        Returns
        -------
        Fleet

        Raises
        ------
        ValueError
            If a count is below one, or `until` has no zone.

        Examples
        --------
        >>> from datetime import datetime, timezone
        >>> fleet = Fleet.generate(vms=3, days=2, until=datetime(2026, 11, 1, tzinfo=timezone.utc))
        >>> [policy.long_term_retention_hours for policy in fleet.policies]
        [8, 8, 8]
        """
        made = generate(
            vms=vms,
            days=days,
            seed=seed,
            until=until,
            servers=servers,
            policies=policies,
            vapp_policies=vapp_policies,
            planted=incidents,
            near_misses=near_misses,
        )
        return Fleet(**{column.name: getattr(made, column.name) for column in fields(made)})

    def snapshot(self, now: int, lag: int, horizon: int) -> Snapshot:
        """What a database filled every `lag`, forgetting after `horizon`, holds at `now` (milliseconds)."""
        collected = now - now % lag if lag > 0 else now

        def known(created: Integers) -> slice:
            newest = int(np.searchsorted(created, collected, "right"))
            return slice(min(int(np.searchsorted(created, now - horizon, "left")), newest), newest)

        return Snapshot(collected, known(self.tasks.created), known(self.policy_sessions.created))

    def server_of_tasks(self, rows: Rows) -> Integers:
        """Return the backup server, by number, of each of these task sessions."""
        policy = self.policy_sessions.policy[self.tasks.policy_session[rows]]
        return self.policy_server[policy].astype(np.int64)

    def task_sessions(
        self, now: datetime | None = None, *, lag: timedelta = LAG, horizon: timedelta = HORIZON
    ) -> dict[str, list[object]]:
        """The truth in plain Python: each task session that the server's database holds at `now`.

        Parameters
        ----------
        now
            The instant of the question, an aware datetime. Default: `until`.
        lag
            The database is filled at each multiple of it. A session that ended after the last filling still runs.
        horizon
            Sessions created longer ago than this have aged out.

        Returns
        -------
        dict of list
            ``uid`` (bare GUID), ``vm``, ``policy``, ``policy_uid``, ``policy_session``, ``policy_session_uid``,
            ``backup_server``, ``backup_server_uid``, ``created`` and ``ended`` (aware datetimes, the end
            None while it runs), ``state``, ``result``, ``reason`` (None if there is none), ``total_size``,
            ``policy_result`` (None while the policy session works);
            rows in the order of their creation.
        """
        known = self.snapshot(
            *(
                instants.from_datetime(now or self.until),
                *map(instants.from_timedelta, (lag, horizon)),
            )
        )
        task, session = self.tasks, self.policy_sessions
        running = (task.ended[known.tasks] > known.collected).tolist()
        parents = task.policy_session[known.tasks].tolist()
        policy = [self.policies[number] for number in session.policy[parents].tolist()]
        names = self.policy_session_names(fraction=False)
        parent_uids = session.guid.texts()
        parent_results = np.where(session.ended > known.collected, 0, session.result).tolist()
        created = [instants.to_datetime(value) for value in task.created[known.tasks].tolist()]
        ends = zip(task.ended[known.tasks].tolist(), running, strict=True)
        results = zip(task.result[known.tasks].tolist(), running, strict=True)
        reasons = zip(task.reason[known.tasks].tolist(), running, strict=True)
        return {
            "uid": list(task.guid.take(known.tasks).texts()),
            "vm": [self.machines.name[number] for number in task.vm[known.tasks].tolist()],
            "policy": [one.name for one in policy],
            "policy_uid": [one.uid for one in policy],
            "policy_session": [names[number] for number in parents],
            "policy_session_uid": [parent_uids[number] for number in parents],
            "backup_server": [one.backup_server for one in policy],
            "backup_server_uid": [one.backup_server_uid for one in policy],
            "created": list(created),
            "ended": [None if runs else instants.to_datetime(value) for value, runs in ends],
            "state": ["InProgress" if runs else "Completed" for runs in running],
            "result": ["Success" if runs else RESULTS[value] for value, runs in results],
            "reason": [
                None if runs or value < 0 else self.reasons[value] for value, runs in reasons
            ],
            "total_size": list(task.total_size[known.tasks].tolist()),
            "policy_result": [
                RESULTS[parent_results[number]] if parent_results[number] else None
                for number in parents
            ],
        }

    def policy_session_names(self, *, fraction: bool) -> list[str]:
        """``<policy>@<creation time>`` of each policy session."""
        created = instants.texts(self.policy_sessions.created)
        policies = [self.policies[number].name for number in self.policy_sessions.policy.tolist()]
        return [
            f"{policy}@{instants.label(text, fraction=fraction)}"
            for policy, text in zip(policies, created, strict=True)
        ]
