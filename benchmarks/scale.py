"""What metrics by ranges of VMs take of archives of 100 thousand to 100 million sessions: time, memory, and the curve.

    python benchmarks/scale.py 100_000 1_000_000 10_000_000 --memory 2GB --output scale.json --curve scale.svg

A year of a fleet is written straight into an archive, a day at a time, the same for the same
seed: VMs whose sessions last one to eight hours, in policies of several RPOs, on six backup
servers; some sessions fail, some come late. Each archive is deleted once it is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyarrow as pa

from cdpanalytics import schema
from cdpanalytics.archive import Archive
from cdpanalytics.execution.partition import memory_size

SOURCE = "https://scale.example:9398"
FIRST = pd.Timestamp("2025-11-01", tz="UTC")
DAYS = 365
HOURS = np.array([1, 2, 4, 6, 8])
A_DAY = float((24 / HOURS).mean())
POLICIES = 12
SERVERS = 6
RPO = pd.to_timedelta(["15s", "1min", "5min", "15min", "30min", "1h"]).to_numpy(dtype="m8[us]")
HOUR = 3_600_000_000
HEX = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), dtype="u1").reshape(256, 2)
DASHED = np.array([at for at in range(36) if at not in (8, 13, 18, 23)])


def fill(archive: Archive, sessions: int, seed: int = 1) -> int:
    """Write about `sessions` sessions, a year of as many VMs as that takes; return how many."""
    vms = max(1, round(sessions / (DAYS * A_DAY)))
    rng = np.random.default_rng(seed)
    hours = np.arange(vms) % len(HOURS)
    phase = rng.integers(0, 8 * HOUR, vms)
    end = FIRST + pd.Timedelta(days=DAYS)
    written = 0
    with archive.writing():
        for number in range(DAYS):
            day = FIRST + pd.Timedelta(days=number)
            rows = one_day(
                number, HOURS[hours] * HOUR, phase, np.random.default_rng([seed, number])
            )
            archive.put_day("sessions", SOURCE, day, rows, end, final=number < DAYS - 1)
            written += len(rows)
    return written


def one_day(
    number: int, length: np.ndarray, phase: np.ndarray, rng: np.random.Generator
) -> pa.Table:
    """Return the sessions of all VMs that begin on a day."""
    start, stop = number * 24 * HOUR, (number + 1) * 24 * HOUR
    first = np.maximum(0, -(-(start - phase) // length))
    count = np.maximum(0, -(-(stop - phase) // length) - first)
    vm = np.repeat(np.arange(len(length)), count)
    nth = np.arange(len(vm)) - np.repeat(np.cumsum(count) - count, count) + first[vm]
    begin = phase[vm] + nth * length[vm]
    # Most sessions follow one another at once; one in a hundred leaves up to two hours open.
    late = np.where(rng.random(len(vm)) < 0.01, rng.integers(0, 2 * HOUR, len(vm)), 0)
    ended = (
        begin
        + length[vm]
        - np.minimum(late + rng.integers(0, 20_000_000, len(vm)), length[vm] // 2)
    )
    running = ended >= DAYS * 24 * HOUR
    verdict = rng.choice(4, len(vm), p=[0, 0.96, 0.03, 0.01])
    epoch = FIRST.value // 1000
    policy = vm % POLICIES
    columns = {
        "uid": uids(len(vm), rng),
        "vm": names("vm-{:06}", vm, len(length)),
        "policy": names("policy-{:02}", policy, POLICIES),
        "backup_server": names("backup-{}", vm % SERVERS, SERVERS),
        "created": pa.array((epoch + begin).view("M8[us]")).cast(schema.INSTANT),
        "ended": pa.array((epoch + ended).view("M8[us]"), mask=running).cast(schema.INSTANT),
        "state": names("{}", running.astype(int), 2, ("Completed", "InProgress")),
        "result": names("{}", np.where(running, 0, verdict), 4, schema.RESULTS),
        "total_size": pa.array((1 + vm % 64) * 2**34 + number * 2**24),
        "rpo": pa.array(RPO[policy % len(RPO)]),
        "as_of": pa.array(np.full(len(vm), epoch + DAYS * 24 * HOUR).view("M8[us]")).cast(schema.INSTANT),
    }  # fmt: skip
    nothing = {field.name: pa.nulls(len(vm), field.type) for field in schema.SESSIONS}
    return pa.table(nothing | columns).cast(schema.SESSIONS)


def names(pattern: str, codes: np.ndarray, count: int, words: tuple[str, ...] = ()) -> pa.Array:
    """Return codes as labels."""
    labels = list(words) or [pattern.format(code) for code in range(count)]
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype("i4")), labels)


def uids(count: int, rng: np.random.Generator) -> pa.Array:
    """Return random GUIDs as text, made without a loop."""
    text = np.full((count, 36), ord("-"), dtype="u1")
    text[:, DASHED] = HEX[rng.integers(0, 256, (count, 16), dtype="u1")].reshape(count, 32)
    edges = np.arange(count + 1, dtype="i4") * 36
    return pa.StringArray.from_buffers(count, pa.py_buffer(edges), pa.py_buffer(text.tobytes()))


class Peak(threading.Thread):
    """Most memory that this process and those it started held at one time.

    Of a page that several share each counts its part (PSS): so the sum is what they take.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self.done = threading.Event()

    def run(self) -> None:
        """Look until told that all is done."""
        while not self.done.wait(0.1):
            self.most = max(self.most, self.held(str(os.getpid())))

    def held(self, pid: str) -> int:
        """Return the bytes of a process and those it started."""
        try:
            told = Path(f"/proc/{pid}/smaps_rollup").read_text().split("Pss:")[1]
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except (OSError, IndexError):
            return 0  # it has just ended
        return int(told.split()[0]) * 1024 + sum(map(self.held, children))


def measure(folder: str, options: argparse.Namespace) -> None:
    """Print what one run takes, as JSON."""
    peak = Peak()
    peak.start()
    start, before = time.perf_counter(), cpu_seconds()
    by = [key for key in options.by.split(",") if key]
    question = Archive(folder).select().using(memory=options.memory, workers=options.workers)
    found = getattr(question, options.metric)(by=by)
    seconds = time.perf_counter() - start
    peak.done.set()
    cpu = cpu_seconds() - before
    print(json.dumps(
        {"seconds": seconds, "cpu": cpu, "peak_mb": peak.most / 10**6, "rows": len(found)}
    ))  # fmt: skip


def cpu_seconds() -> float:
    """Return what this process and those it started and that have ended have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def run(sessions: int, options: argparse.Namespace) -> dict[str, Any]:
    """Write an archive, measure it in a process that has held nothing else, delete it."""
    folder = Path(tempfile.mkdtemp(dir=options.directory))
    try:
        start = time.perf_counter()
        written = fill(Archive(folder / "archive"), sessions)
        filled = time.perf_counter() - start
        written_size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
        command = [sys.executable, __file__, "--measure", str(folder / "archive"),
                   "--metric", options.metric, "--by", options.by,
                   "--memory", options.memory]  # fmt: skip
        command += ["--workers", str(options.workers)] if options.workers else []
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        return {
            "what": "scale",
            "metric": options.metric,
            "by": options.by,
            "memory": options.memory,
            "sessions": written,
            "archive_mb": written_size / 10**6,
            "write_seconds": filled,
        } | json.loads(said)
    finally:
        shutil.rmtree(folder)


def machine() -> dict[str, Any]:
    """What the figures are of."""
    return {"what": "machine", "cores": os.cpu_count(), "python": platform.python_version(),
            **{name: version(name) for name in ("pandas", "numpy", "pyarrow")}}  # fmt: skip


def draw(rows: list[dict[str, Any]], memory: str, path: Path) -> None:
    """Draw what a session costs, and the peak of memory, by how many there are."""
    sessions = [row["sessions"] for row in rows]
    costs, peaks = ([row[name] for row in rows] for name in ("us_a_session", "peak_mb"))
    bound = memory_size(memory) / 10**6
    fig, (cost, held) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    fig.suptitle(
        f"{sessions[-1]:,} sessions take {costs[-1]:.1f} µs of CPU each, and {max(peaks):,.0f} MB"
    )
    cost.plot(sessions, costs, "o-")
    cost.set(ylabel="CPU a session, µs", ylim=(0, 1.3 * max(costs)))
    cost.annotate(
        "mostly opening a year of daily files", (sessions[0], costs[0]), xytext=(8, 2),
        textcoords="offset points", color="dimgrey",
    )  # fmt: skip
    held.plot(sessions, peaks, "o-")
    held.axhline(bound, color="grey", linestyle="--", linewidth=1)
    held.annotate(f'memory="{memory}"', (min(sessions), bound), va="bottom", color="dimgrey")
    held.set(ylabel="peak memory of all processes, MB", ylim=(0, 1.2 * max(bound, *peaks)))
    for ax in (cost, held):
        ax.set(xscale="log", xlabel="sessions in the archive")
        ax.spines[["top", "right"]].set_visible(False)
    fig.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    """Print one row per size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sessions", nargs="*", type=int, default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--metric", default="rpo_adherence")
    parser.add_argument("--by", default="policy")
    parser.add_argument("--memory", default="2GB")
    parser.add_argument("--workers", type=int, help="processes; default: as the Selection chooses")
    parser.add_argument("--directory", help="where archives are written; default: the system's")
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    parser.add_argument("--curve", type=Path, help="an image of them, SVG or PNG")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options)
        return
    print(f"{options.metric}(by={options.by!r}), memory={options.memory}")
    print(f"{'sessions':>12} {'archive MB':>11} {'seconds':>9} {'CPU s':>9} {'µs a session':>13} "
          f"{'peak MB':>8}")  # fmt: skip
    table: list[dict[str, Any]] = []
    for sessions in options.sessions:
        row = run(sessions, options)
        row["us_a_session"] = row["cpu"] / row["sessions"] * 1e6
        table.append(row)
        print(f"{row['sessions']:12,} {row['archive_mb']:11,.0f} {row['seconds']:9.1f} "
              f"{row['cpu']:9.1f} {row['us_a_session']:13.2f} {row['peak_mb']:8,.0f}", flush=True)  # fmt: skip
        if options.output:
            options.output.write_text(json.dumps([machine(), *table], indent=1) + "\n")
    if options.curve:
        draw(table, options.memory, options.curve)


if __name__ == "__main__":
    main()
