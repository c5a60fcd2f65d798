"""What every benchmark shares: least times and peak memory, a process for each, and what the figures are of.

Other work of a machine only adds to a time, so the least of several runs is told, for every tool.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def machine(*packages: str) -> Row:
    """What the figures are of: the processor, its cores and how busy they were, memory, versions."""
    return {
        "what": "machine", "processor": _processor(), "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": platform.system(), "load": round(os.getloadavg()[1], 1),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }  # fmt: skip


def _processor() -> str:
    with suppress(OSError, IndexError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ", 1)[1] for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def forget_peak() -> None:
    """Let the peak begin anew at what is held now, where the kernel can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """The most memory that this process has held."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1000
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def measured(ask: Callable[[], Any], repeat: int, patience: float = 5.0) -> Row:
    """Do it several times, but no longer than it takes patience; the first time only warms up.

    Unless that took three times the patience: then it counts, and is the only one.
    """
    forget_peak()
    took = [_once(ask)]
    peak = peak_mb()
    if took[0][0] < 3 * patience:
        took = [_once(ask)]
        while len(took) < repeat and sum(wall for wall, _ in took) < patience:
            took.append(_once(ask))
    wall, cpu = zip(*took, strict=True)
    return {"seconds": min(wall), "runs": len(took), "cpu": min(cpu), "peak_mb": peak}


def _once(ask: Callable[[], Any]) -> tuple[float, float]:
    begun, used = now()
    ask()
    wall, cpu = now()
    return wall - begun, cpu - used


def now() -> tuple[float, float]:
    """Two clocks: the wall's and this process's."""
    return time.perf_counter(), time.process_time()


def least(rows: list[Row]) -> Row:
    """One row of several runs: the least of each number that is measured, the rest as it is."""
    first = rows[0]
    told = {k: min(row[k] for row in rows) for k in first if isinstance(first[k], float)}
    return {**first, **told, "runs": len(rows)}


def alone(script: str, *arguments: object) -> Any:
    """Run a script with ``--one`` in a process of its own; return what it says on its last line."""
    command = [sys.executable, script, "--one", *map(str, arguments)]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(said.splitlines()[-1])


@cache
def _installed() -> dict[str, str]:
    """The environment of processes that find their modules compiled, as installed ones are."""
    kept = tempfile.mkdtemp(prefix="bytecode-")
    atexit.register(shutil.rmtree, kept, ignore_errors=True)
    others = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {**others, "PYTHONPYCACHEPREFIX": kept}


def process(command: Sequence[str], folder: str | None = None, most: int = 3) -> Row:
    """Time one Python process from its start to its end; an exit code up to `most` is an answer.

    The first one of a command compiles its modules, so its time should not count.
    """
    environment = _installed()
    begun = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder,
        env=environment,
    )  # fmt: skip
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if not 0 <= child.returncode <= most:
        raise subprocess.CalledProcessError(child.returncode, command)
    unit = 1000 if sys.platform != "darwin" else 1_000_000
    return {"seconds": time.perf_counter() - begun, "cpu": usage.ru_utime + usage.ru_stime,
            "peak_mb": usage.ru_maxrss / unit}  # fmt: skip


def arguments(about: str | None, *, repeat: int) -> argparse.ArgumentParser:
    """The arguments that each benchmark takes."""
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=repeat, help="default: %(default)s")
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    return parser


def told(rows: list[Row], table: str, output: Path | None) -> None:
    """Print the table, and write the figures it is made of."""
    print(table)
    if output:
        lines = ",\n".join(json.dumps(_short(row)) for row in rows)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(f"[\n{lines}\n]\n")


def _short(row: Row) -> Row:
    return {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}
