"""Several Enterprise Managers and backup servers in one archive, with the same names on each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from cdpanalytics.archive.names import day_file, slug
from cdpanalytics.simulator import Fleet, Simulator
from tests.conftest import UNTIL
from tests.test_synchronize import assert_not_asked_again, synced

SERVERS = ["backup_server", "vm"]


def estate(seed: int, prefix: str) -> Fleet:
    """An estate whose policies and VMs are called like any other's; only its servers are not."""
    fleet = Fleet.generate(vms=8, days=5, seed=seed, until=UNTIL, servers=2, policies=2)
    servers = tuple(replace(one, name=f"{prefix}-{one.name}") for one in fleet.servers)
    policies = tuple(
        replace(one, backup_server=f"{prefix}-{one.backup_server}") for one in fleet.policies
    )
    machines = replace(fleet.machines, name=tuple(f"vm-{i}" for i in range(8)))
    return replace(fleet, servers=servers, policies=policies, machines=machines)


@pytest.fixture
def two() -> Iterator[tuple[Simulator, Simulator]]:
    with Simulator(estate(1, "east")) as east, Simulator(estate(2, "west"), version=13) as west:
        yield east, west


def test_the_archive_of_two_holds_what_each_would_hold_alone(
    two: tuple[Simulator, Simulator], folder: Path, tmp_path: Path
) -> None:
    alone = [synced(one, tmp_path / str(n), since="6D")[0].sessions() for n, one in enumerate(two)]
    for one in (*two, *two):
        archive, _ = synced(one, folder, since="6D")
    both = archive.sessions()
    assert len(both) == sum(map(len, alone))
    assert both["uid"].is_unique
    assert archive.verify().empty
    assert sorted(archive.sources()) == sorted(one.url for one in two)
    names = [set(frame["vm"].astype("str")) for frame in alone]
    assert names[0] & names[1], "the same names on both"
    # An hour before the syncs, so that each archive knows of it.
    before = pd.Timestamp(UNTIL) - pd.Timedelta("1h")
    together = both.cdp.rpo_adherence("1h", by=SERVERS, as_of=before).set_index(SERVERS)
    for frame in alone:
        apart = frame.cdp.rpo_adherence("1h", by=SERVERS, as_of=before).set_index(SERVERS)
        pd.testing.assert_frame_equal(together.loc[apart.index], apart)
    east = archive.sessions(server="east-*")
    assert len(east) == len(alone[0])


def test_each_has_its_own_settings_and_final_days(
    two: tuple[Simulator, Simulator], folder: Path
) -> None:
    for one in two:
        archive, _ = synced(one, folder, since="6D")
    policies = archive.policies()
    assert policies["policy_uid"].is_unique
    assert set(policies["backup_server"].str[:4]) == {"east", "west"}
    for one in two:
        final = archive.ledger().query("final and source == @one.url")["day"].tolist()
        before = len(one.requests)
        synced(one, folder, since="6D", quick=True)
        assert final
        assert_not_asked_again(one, before, final)


def test_a_hole_of_one_is_no_hole_of_the_other(
    two: tuple[Simulator, Simulator], folder: Path
) -> None:
    east, west = two
    synced(east, folder, since="6D")
    for one in two:
        one.advance(timedelta(hours=30))
    archive, _ = synced(west, folder, since="6D")
    holes = archive.holes()
    assert set(holes["source"]) == {east.url}
    assert set(holes["backup_server"].str[:4]) == {"east"}
    row = archive.sessions().cdp.rpo_adherence("1h", by="backup_server", unobserved=holes)
    observed = row.set_index("backup_server")["observed"]
    late = archive.sessions().cdp.rpo_adherence("1h", by="backup_server").set_index("backup_server")
    assert (
        (late["observed"] - observed)[lambda s: s.index.str.startswith("east")]
        .gt(pd.Timedelta("30h"))
        .all()
    )
    assert (late["observed"] == observed)[lambda s: s.index.str.startswith("west")].all()


def test_two_managers_of_one_backup_server_fill_each_others_holes(
    two: tuple[Simulator, Simulator], folder: Path
) -> None:
    """The same estate behind a second address: what one has not fetched, the other has."""
    east, _ = two
    synced(east, folder, since="6D")
    with Simulator(east.fleet) as second:
        second.advance(timedelta(hours=30))
        archive, _ = synced(second, folder, since="6D")
    assert archive.holes().empty
    assert archive.sessions()["uid"].is_unique


@pytest.mark.parametrize(
    ("one", "other"),
    [("https://[::1]:9398", "https://[1::]:9398"), ("https://em:9398", "http://em:9398"),
     ("https://em-1:9398", "https://em_1:9398"), ("https://a.b:1", "https://a-b:1")],
)  # fmt: skip
def test_no_two_sources_share_a_folder(one: str, other: str) -> None:
    assert slug(one) != slug(other)
    for source in (one, other):
        assert not set(slug(source)) & set('/\\:*?"<>| ')
        name = day_file("sessions", source, pd.Timestamp(0))
        assert name.parts[:2] == ("sessions", slug(source))
