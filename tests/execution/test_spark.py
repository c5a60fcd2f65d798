"""The recipe of docs/spark.md gives what a Selection does."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from cdpanalytics import Archive, metrics
from tests.builders import mapped
from tests.conftest import at_night

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "docs/spark.md"


@at_night
@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java, which is not here")
@pytest.mark.skipif(
    importlib.util.find_spec("pyspark") is None, reason="PySpark is not here: pip install pyspark"
)
def test_the_recipe_gives_what_archive_map_does(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", RECIPE.read_text(), re.S)
    on_loopback = {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_HOSTNAME": "localhost"}
    told = tmp_path / "table.parquet"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\ntable.to_parquet({str(told)!r})"],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, **on_loopback, "PYSPARK_PYTHON": sys.executable, "PYTHONPATH": str(ROOT),
             "SPARK_LOCAL_DIRS": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = pd.read_parquet(told)
    whole = mapped(Archive(ROOT / "data/sample"), metrics.rpo_adherence, by="vm", progress=False)
    for name in ("observed", "breached", "worst_gap"):
        found[name] = pd.to_timedelta(found[name], unit="us")
    pd.testing.assert_frame_equal(found, whole[list(found)].astype(found.dtypes), check_exact=True)
    assert len(found) > 10
