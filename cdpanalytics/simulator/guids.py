"""GUIDs as pairs of 64-bit numbers, derived from a seed, and the two orders in which databases sort them."""

import re
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_GUID = re.compile(
    r"(?:urn:.*:)?\{?([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})\}?",
    re.IGNORECASE,
)


class Family(IntEnum):
    """What a GUID names: equal numbers in different families give different GUIDs."""

    SERVER = 1
    POLICY = 2
    REPLICA = 3
    VM = 4
    INCLUDE = 5
    POLICY_SESSION = 6
    TASK_SESSION = 7
    REPOSITORY = 8
    HOST = 9
    RESTORE_POINT = 10


class Guids(NamedTuple):
    """A column of GUIDs: the first and the last eight bytes of each, as they are read."""

    high: Words
    low: Words

    def take(self, rows: "slice | NDArray[np.intp]") -> "Guids":
        """The GUIDs at these positions."""
        return Guids(self.high[rows], self.low[rows])

    def text(self, row: int) -> str:
        """The GUID at one position."""
        return text(int(self.high[row]), int(self.low[row]))

    def texts(self) -> list[str]:
        """Each GUID as ``8-4-4-4-12`` lower-case digits."""
        return [
            text(high, low) for high, low in zip(self.high.tolist(), self.low.tolist(), strict=True)
        ]


def derive(seed: int, family: Family, count: int) -> Guids:
    """The first `count` version-4 GUIDs of a family; the same for the same seed, in every process."""
    base = _mix_one(_mix_one(seed & _MASK) ^ int(family))
    steps = np.arange(1, 2 * count + 1, dtype=np.uint64)
    words = _mix(np.uint64(base) + steps * np.uint64(_GOLDEN))
    high = words[0::2] & np.uint64(0xFFFFFFFFFFFF0FFF) | np.uint64(0x4000)
    low = words[1::2] & np.uint64(0x3FFFFFFFFFFFFFFF) | np.uint64(0x8000000000000000)
    return Guids(high, low)


def text(high: int, low: int) -> str:
    """One GUID as ``8-4-4-4-12`` lower-case digits."""
    digits = f"{high:016x}{low:016x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def parse(value: str) -> tuple[int, int] | None:
    """The GUID of a bare text or of a URN that ends with one; ``None`` if it is neither."""
    match = _GUID.fullmatch(value.strip())
    if match is None:
        return None
    digits = "".join(match.groups())
    return int(digits[:16], 16), int(digits[16:], 16)


def order(guids: Guids, *, sql_server: bool) -> NDArray[np.intp]:
    """Positions in the database's own order: SQL Server compares the last six bytes first."""
    if not sql_server:
        return np.lexsort((guids.low, guids.high))
    node_then_clock = (guids.low << np.uint64(16)) | (guids.low >> np.uint64(48))
    return np.lexsort((guids.high.byteswap(), node_then_clock))


def _mix(words: Words) -> Words:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _mix_one(word: int) -> int:
    return int(_mix(np.array([word], dtype=np.uint64))[0])
