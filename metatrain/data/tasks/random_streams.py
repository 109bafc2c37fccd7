"""Counter-based random streams: pure functions of a key and a counter."""

import hashlib
from functools import lru_cache

import numpy as np

# The first word of a counter, one for each purpose: no purpose reuses the numbers of another.
ORDER, IMAGES = 0, 1


def stream_key(seed: int, split: str) -> int:
    """Return the key of the streams of `split` under `seed`."""
    digest = hashlib.sha256(f"{seed}/{split}".encode()).digest()
    return int.from_bytes(digest[:16], "little")


def random_stream(key: int, *counter: int) -> np.random.Generator:
    """Return numpy's Philox generator under `key`, at the place that `counter` names.

    Args:
        key: from `stream_key`.
        counter: up to three numbers below 2**64, the purpose first.
    """
    words = np.zeros(4, dtype=np.uint64)
    # The lowest word counts the numbers within the stream.
    words[1 : 1 + len(counter)] = counter
    return np.random.Generator(np.random.Philox(key=key, counter=words))


def turn_of(key: int, episode: int, count: int) -> int:
    """Return which of `count` things has its turn in an episode, counted over all outer steps.

    Each comes once before any comes twice, in another order every time.
    """
    epoch, position = divmod(episode, count)
    return int(permutation(key, epoch, count)[position])


@lru_cache(maxsize=8)
def permutation(key: int, epoch: int, count: int) -> np.ndarray:
    """Return the order of `count` tasks in `epoch`."""
    return random_stream(key, ORDER, epoch).permutation(count)
