"""A uid that comes again is found, and none besides: as pandas finds it, slower."""

import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from cdpanalytics.metrics.core.kernels import _digests, duplicated_positions

GUIDS = st.integers(0, 20).map("00000000-0000-4000-8000-{:012x}".format)
SHORT = st.sampled_from(["", "a", "b"])
# Found by reducing the lattice of texts with equal digests: chance does not bring them.
ONE_DIGEST = ("(!!M(!!!v%~~!!!!" + "-" * 20, "!4A!!!!!!!!\x13:!!!" + "-" * 20)


def slow(uid):
    return np.flatnonzero(uid.duplicated(keep=False) & uid.notna()).tolist()


@given(
    st.one_of(
        st.lists(GUIDS | st.none()),
        st.lists(SHORT | st.none()),
        st.lists(GUIDS | SHORT | st.none()),
    ),
    st.sampled_from(["str", "object", "string", "category", pd.StringDtype("python")]),
    st.integers(0, 3),
)
def test_it_finds_what_comes_again(uids, dtype, dropped):
    uid = pd.Series(uids, dtype=dtype).iloc[dropped:]
    assert duplicated_positions(uid).tolist() == slow(uid)


@given(st.lists(st.lists(GUIDS | st.none(), max_size=4), min_size=1))
def test_a_column_may_lie_in_pieces(pieces):
    chunks = pa.chunked_array([pa.array(piece, pa.large_string()) for piece in pieces])
    uid = pd.Series(pd.array(chunks, dtype="str"))
    assert duplicated_positions(uid).tolist() == slow(uid)


def test_two_uids_of_one_digest_are_two_sessions():
    first, second = ONE_DIGEST
    digests = _digests(pa.array([first, second]))
    assert digests[0] == digests[1]
    assert duplicated_positions(pd.Series([first, second, "-" * 36], dtype="str")).tolist() == []
    assert duplicated_positions(pd.Series([first, second, first], dtype="str")).tolist() == [0, 2]
