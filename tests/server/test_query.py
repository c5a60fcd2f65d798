"""The API's own query, from `field` to a frame: each parameter, each operator, over all pages of a real server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest

import cdpanalytics as cdp
from cdpanalytics import schema
from cdpanalytics.errors import ServerError
from cdpanalytics.server.client import EnterpriseManager
from cdpanalytics.server.filters import FIELDS
from cdpanalytics.simulator import Fleet, Simulator

f = cdp.field
HOSTILE = 'a"b;c'

COLUMNS = {
    "Id": "uid", "PolicySessionUid": "policy_session_uid", "PolicySessionName": "policy_session",
    "BackupServerUid": "backup_server_uid", "BackupServerName": "backup_server", "CreationTimeUTC": "created",
    "EndTimeUTC": "ended", "State": "state", "Reason": "reason", "TotalSize": "total_size",
    "VmDisplayName": "vm",
}  # fmt: skip


@pytest.fixture(
    scope="module", params=[(12, "json"), (13, "json"), (12, "xml")], ids=["v12", "v13", "xml"]
)
def em(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[EnterpriseManager]:
    version, accept = request.param
    with Simulator(fleet, version=version) as server:
        options: dict[str, Any] = {"cache": False, "accept": accept, "page_size": 50}
        with EnterpriseManager(server.url, "demo", "demo", **options) as manager:
            yield manager


@pytest.fixture(scope="module")
def everything(em: EnterpriseManager) -> pd.DataFrame:
    return em.query()


def test_all_pages_come_as_one_frame_by_time(everything: pd.DataFrame, fleet: Fleet) -> None:
    assert len(everything) == len(fleet.task_sessions()["uid"]) > 100
    assert list(everything.columns) == schema.SESSIONS.names
    assert everything["created"].is_monotonic_increasing
    assert everything["uid"].is_unique


@pytest.mark.parametrize("name", FIELDS)
def test_each_documented_parameter_selects_its_row(
    em: EnterpriseManager, everything: pd.DataFrame, name: str
) -> None:
    row = everything.dropna(subset=["ended", "reason"]).iloc[3]
    if name == "Name":
        references = em.query(f("Id") == row["uid"], references=True)
        assert len(em.query(f("Name") == references["name"][0])) >= 1
        return
    column = COLUMNS[name]
    value = int(row[column]) if name == "TotalSize" else row[column]
    found = em.query(f(name) == value, sort=name, descending=True)
    expected = everything[(everything[column] == row[column]).fillna(False).astype(bool)]
    assert sorted(found["uid"]) == sorted(expected["uid"])


@pytest.mark.parametrize("sign", ["==", "!=", "<", "<=", ">", ">="])
def test_each_operator(em: EnterpriseManager, everything: pd.DataFrame, sign: str) -> None:
    size = int(everything["total_size"].median())
    conditions = {
        "==": f("TotalSize") == size, "!=": f("TotalSize") != size, "<": f("TotalSize") < size,
        "<=": f("TotalSize") <= size, ">": f("TotalSize") > size, ">=": f("TotalSize") >= size,
    }  # fmt: skip
    expected = everything.query(f"total_size {sign} @size")["uid"]
    assert sorted(em.query(conditions[sign])["uid"]) == sorted(expected)


def test_and_or_and_groups(em: EnterpriseManager, everything: pd.DataFrame) -> None:
    big, running = f("TotalSize") > 2**35, f("State") == "InProgress"
    hostile = f("VmDisplayName") == HOSTILE
    a, b, c = (
        everything["total_size"] > 2**35,
        everything["state"] == "InProgress",
        everything["vm"] == HOSTILE,
    )
    for asked, mask in (
        ((big | running) & hostile, (a | b) & c),
        (big | (running & hostile), a | (b & c)),
        ((big & running) | hostile, (a & b) | c),
    ):
        assert sorted(em.query(asked)["uid"]) == sorted(everything[mask]["uid"])


def test_a_hostile_name_is_found_and_text_says_the_same(
    em: EnterpriseManager, everything: pd.DataFrame
) -> None:
    asked = f("VmDisplayName") == HOSTILE
    found = em.query(asked)
    assert set(found["vm"]) == {HOSTILE}
    assert len(found) == (everything["vm"] == HOSTILE).sum() > 0
    pd.testing.assert_frame_equal(
        em.query('VmDisplayName=="a""b;c"').drop(columns="as_of"), found.drop(columns="as_of")
    )


def test_references_name_what_entities_hold(
    em: EnterpriseManager, everything: pd.DataFrame
) -> None:
    references = em.query(references=True)
    assert list(references.columns) == schema.REFERENCES.names
    assert sorted(references["uid"]) == sorted(everything["uid"])


def test_what_the_server_refuses_is_one_line(em: EnterpriseManager) -> None:
    with pytest.raises(
        ServerError, match=r"HTTP 400: .*unknown field 'Colour'.*; check the filter"
    ) as error:
        em.query(f("Colour") == "red")
    assert "\n" not in str(error.value)


def test_sessions_come_with_policy_verdict_and_rpo(em: EnterpriseManager, fleet: Fleet) -> None:
    found = em.sessions(since="3D", policy="go*")
    assert set(found["policy"]) == {"Gold"}
    assert found["rpo"].unique().tolist() == [pd.Timedelta(fleet.policies[0].rpo)]
    assert found["policy_result"].notna().any()
    assert len(em.sessions(since="3D", vm=HOSTILE.replace("[", "[[]"))) > 0


def test_a_session_that_expired_is_renewed_once(fleet: Fleet) -> None:
    with (
        Simulator(fleet) as server,
        EnterpriseManager(server.url, "demo", "demo", cache=False) as em,
    ):
        before = len(em.query())
        server.advance(timedelta(minutes=16))
        assert len(em.query()) >= before
        logons = [path for method, path, *_ in server.requests if method == "POST"]
        assert logons == ["/api/sessionMngr/"] * 2
    assert server.requests[-1][0] == "DELETE", "logged out at the end"
