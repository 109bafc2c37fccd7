"""Counter-based random streams: a pure function of a key and a counter."""

import hashlib
from functools import lru_cache

import numpy as np

# Domains of the counter-based generator: draws for one purpose never reuse another's numbers.
_ORDER, _IMAGES = 0, 1


def _key(seed: int, split: str) -> int:
    digest = hashlib.sha256(f"{seed}/{split}".encode()).digest()
    return int.from_bytes(digest[:16], "little")


def _generator(key: int, *counter: int) -> np.random.Generator:
    """Numpy's Philox at a place of its own: the counter names the draw, the key the stream."""
    words = np.zeros(4, dtype=np.uint64)
    # The lowest word is left to count within the draw.
    words[1 : 1 + len(counter)] = counter
    return np.random.Generator(np.random.Philox(key=key, counter=words))


@lru_cache(maxsize=8)
def _permutation(key: int, epoch: int, count: int) -> np.ndarray:
    return _generator(key, _ORDER, epoch).permutation(count)
