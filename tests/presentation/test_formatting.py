"""A column's unit, where one name stands for two things."""

from __future__ import annotations

import pandas as pd

from cdpanalytics.presentation import formatting


def test_a_change_of_sizes_is_in_bytes_and_one_of_adherence_in_points() -> None:
    sizes = pd.DataFrame({"size": [2.0**34], "change": [2.0**33], "projected_low": [2.0**34]})
    assert formatting.format_table(sizes).iloc[0].tolist() == ["16.0 GiB", "8.0 GiB", "16.0 GiB"]
    shares = pd.DataFrame({"adherence": [0.99], "change": [-0.005]})
    assert formatting.format_table(shares)["change"].tolist() == ["-0.50 points"]
