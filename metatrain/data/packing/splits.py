"""The split of every task."""

from collections.abc import Mapping

from metatrain.data.packed.writer import sha256_of


def assign_splits(
    tasks: Mapping[str, str | None], seed: int, shares: tuple[float, float, float]
) -> dict[str, str]:
    """Return the split of every task: the given one, or by the rank of a hash of seed and name.

    val and test get their rounded shares, but at least one task each of three or more, and two of
    ten or more; train gets the rest.

    Args:
        tasks: every task's name, and the split that the source gives it, or None.
        seed: another seed gives another assignment.
        shares: of train, val and test, summing to 1.
    """
    free = sorted(
        (name for name, fixed in tasks.items() if fixed is None),
        key=lambda name: sha256_of(f"{seed}/{name}".encode()),
    )
    # Two, where there are enough: scores compare a task with others.
    least = 2 if len(free) >= 10 else 1 if len(free) >= 3 else 0
    val, test = (max(round(share * len(free)), least if share else 0) for share in shares[1:])
    order = ["val"] * val + ["test"] * test + ["train"] * len(free)
    fixed = {name: split for name, split in tasks.items() if split}
    return fixed | dict(zip(free, order, strict=False))
