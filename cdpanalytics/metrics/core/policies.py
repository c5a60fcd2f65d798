"""What policies' settings say of sessions: their newest RPO, schedule and cadence, and the VMs they name."""

from __future__ import annotations

from collections.abc import Sized
from functools import cache

import numpy as np
import pandas as pd

from cdpanalytics.metrics.core.codes import Codes
from cdpanalytics.metrics.core.kernels import Integers, compact_codes
from cdpanalytics.schema import KEYS

_NULL_IS_SET = frozenset({"schedule", "long_term"})
"""Settings of which a missing value is one: every hour, no long-term restore points."""


def listed_vms(
    policies: pd.DataFrame | None, with_server: bool, until: pd.Timestamp | None = None
) -> pd.DataFrame:
    """Return the VMs that a policy names in its newest settings: rows of backup_server, policy, vm.

    With `until`, in the newest that were seen by then. Where the settings have `tags`, one
    mapping for each of their `vms`, each tag is a column.
    """
    if until is not None:
        policies = known_at(policies, until)
    if policies is None or "vms" not in policies or not any(map(_lists_some, policies["vms"])):
        return _no_vms()
    columns = [key for key in ("backup_server", "policy") if key in policies]
    same = ["policy_uid"] if "policy_uid" in policies else columns
    newest = in_time(policies).drop_duplicates(same, keep="last") if same else policies
    lists = [name for name in ("vms", "tags") if name in newest]
    named = newest[[*columns, *lists]].explode(lists).rename(columns={"vms": "vm"})
    named = named.dropna(subset=["vm"]).drop_duplicates([*columns, "vm"], ignore_index=True)
    if "tags" in named:
        named = named.join(pd.DataFrame(named.pop("tags").tolist(), index=named.index))
    return named if with_server else named.drop(columns="backup_server", errors="ignore")


@cache
def _no_vms() -> pd.DataFrame:
    return pd.DataFrame({key: pd.Series(dtype="str") for key in KEYS})


def _lists_some(vms: object) -> bool:
    return isinstance(vms, Sized) and not isinstance(vms, str) and len(vms) > 0


def in_time(policies: pd.DataFrame) -> pd.DataFrame:
    """Return settings in the order in which they were first seen."""
    return policies.sort_values("seen_from", kind="stable") if "seen_from" in policies else policies


def known_at(policies: pd.DataFrame | None, at: pd.Timestamp) -> pd.DataFrame | None:
    """Return the settings that were seen by an instant; of a policy seen later only, the first."""
    if policies is None or "seen_from" not in policies or "policy" not in policies:
        return policies
    later = policies["seen_from"] > at
    if not later.any():
        return policies
    keys = [key for key in ("policy_uid", "backup_server", "policy") if key in policies][:2]
    ordered = in_time(policies)
    first = ~ordered.duplicated(keys)
    return ordered[~later[ordered.index] | first].sort_index()


def numbered(keys: dict[str, Codes], count: int) -> tuple[Integers, pd.DataFrame]:
    """Return each session's policy as a number, and what names each policy for `newest_setting`.

    A policy is known by its backup server and name, or by its name alone where
    either side does not say the server.
    """
    server, policy = (keys[key].codes[:count] for key in ("backup_server", "policy"))
    many = len(keys["policy"].values) + 1
    number, pairs = compact_codes((server + 1) * many + policy + 1)
    parts = {"backup_server": pairs // many - 1, "policy": pairs % many - 1}
    names = {
        key: Codes(codes, keys[key].values).at(np.arange(len(pairs)))
        for key, codes in parts.items()
        if key == "policy" or len(keys[key].values)
    }
    return number, pd.DataFrame(names)


def newest_setting(names: pd.DataFrame, policies: pd.DataFrame | None, column: str) -> pd.Series:
    """Return for rows of `policy`, and `backup_server` where it is known, their newest `column`."""
    if policies is None or column not in policies:
        return pd.Series([None] * len(names), dtype=object)
    if "policy" not in policies or policies[column].isna().all():
        return pd.Series([None] * len(names), dtype=policies[column].dtype)
    keys = [key for key in names if key in policies]
    known = in_time(policies)
    if column not in _NULL_IS_SET:
        known = known.dropna(subset=[column])
    newest = known.drop_duplicates(keys, keep="last")[[*keys, column]]
    return names.merge(newest.astype(dict.fromkeys(keys, "str")), on=keys, how="left")[column]
