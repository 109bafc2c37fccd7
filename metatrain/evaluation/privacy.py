"""The demand that a system memorises no more than real images do."""

from collections.abc import Collection, Mapping, Sequence

from metatrain.base.errors import UserError
from metatrain.evaluation.protocol import ScoredSystem
from metatrain.evaluation.scores.baselines import REAL

_METRIC = "memorised"


def privacy_faults(systems: Mapping[str, ScoredSystem], names: Collection[str]) -> list[str]:
    """List where the systems `names` memorise: more than held-out real images, in any space.

    A real image that is near to the support is so by chance. A share of samples above that of real
    images by more than the paired 95% interval is not.

    Args:
        systems: by name, with the held-out real images.
        names: the systems that are compared with these.
    """
    faults = []
    for name in names:
        for space, scores in systems[name].scores.items():
            excess = scores[_METRIC].minus(systems[REAL].scores[space][_METRIC])
            if not excess.low <= 0:  # also where it is not a number
                faults.append(
                    f"{name} in {space}: {100 * excess.value:+z.1f} points "
                    f"[{100 * excess.low:z.1f}, {100 * excess.high:z.1f}]"
                )
    return faults


def demand_privacy(faults: Sequence[str]) -> None:
    """Refuse systems that memorise.

    Raises:
        UserError: when there is a fault.
    """
    if faults:
        raise UserError(
            f"privacy is not kept: more samples than held-out real images are near copies of the "
            f"support ({'; '.join(faults)}); adapt with fewer inner steps or more images, and "
            f"publish neither this model nor its samples."
        )
