"""Which rows tell of one session: by numbers made of the uids first, by the uids themselves last."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from cdpanalytics.metrics.core.cores import RANGE, each

_WIDTH = 36
_WORDS = np.dtype({
    "names": ["a", "b", "c", "d", "e"], "formats": ["<u8"] * 5,
    "offsets": [0, 8, 16, 24, 28], "itemsize": _WIDTH,
})  # fmt: skip
"""The 36 characters of a GUID as five numbers; the last two overlap."""

_FACTORS = {
    "a": 0x9E3779B97F4A7C15, "b": 0xBF58476D1CE4E5B9, "c": 0x94D049BB133111EB,
    "d": 0xD6E8FEB86659FD93, "e": 0xFF51AFD7ED558CCD,
}  # fmt: skip
"""Odd, so that no one word that differs alone makes the same digest."""


def repeated(uid: pd.Series) -> NDArray[np.int64]:
    """Return the positions of rows whose uid another row has too; a missing uid is nobody's.

    GUIDs are told apart by a 64-bit digest of each, sorted: what has a digest of its own
    has a uid of its own. Only the rest are compared as text.
    """
    alike = np.flatnonzero(_may_repeat(uid))
    if not len(alike):
        return alike
    some = uid.iloc[alike]
    return alike[(some.duplicated(keep=False) & some.notna()).to_numpy(dtype=bool)]


def _may_repeat(uid: pd.Series) -> NDArray[np.bool_]:
    """Rows whose digest comes again, or all of them where these are not GUIDs held by Arrow."""
    if isinstance(uid.dtype, pd.StringDtype) and len(uid):
        try:
            ranges = pa.table({"uid": pa.chunked_array(uid)}).to_batches(RANGE)
            digests = np.concatenate(each(lambda some: _digests(some.column(0)), ranges))
        except pa.ArrowInvalid:  # another width
            return np.ones(len(uid), dtype=bool)
        inline = np.sort(digests)
        return np.isin(digests, inline[1:][inline[1:] == inline[:-1]])
    return np.ones(len(uid), dtype=bool)


def _digests(uids: pa.Array) -> NDArray[np.uint64]:
    guids = uids.cast(pa.binary(_WIDTH))
    words = np.frombuffer(guids.buffers()[1], _WORDS, len(guids), guids.offset * _WIDTH)
    digests = np.zeros(len(guids), dtype=np.uint64)
    for name, factor in _FACTORS.items():
        digests += words[name] * np.uint64(factor)
    return digests
