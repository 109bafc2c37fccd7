"""Membership inference: whether the loss tells the images that a model adapted to from others.

The attack by a threshold of the loss of Yeom et al. 2018, "Privacy Risk in Machine Learning:
Analyzing the Connection to Overfitting" (section 3.2), at all thresholds together: the AUROC is the
probability that an image of the support has a lower loss than another image of its task, which is
0.5 where nobody can tell (ties count half). Images are compared within a task and a seed, since
tasks differ in their losses; tasks are the random sample, and are resampled whole.
"""

from dataclasses import dataclass

from torch import Tensor

from metatrain.evaluation.scores.statistics import Estimate, mean_of, score


@dataclass(frozen=True)
class Membership:
    """The success of membership inference.

    Attributes:
        auroc: the probability that an image of the support has a lower loss than one held out.
        gap: the mean loss of images held out minus that of the support's, as a share of the former.
    """

    auroc: Estimate
    gap: Estimate


def membership(support: Tensor, others: Tensor) -> Membership:
    """Measure by the losses of support images [S, T, K] and of other images [S, T, Q]."""
    lower = (support[..., :, None] < others[..., None, :]).double()
    ties = (support[..., :, None] == others[..., None, :]).double()
    aurocs = (lower + ties / 2).mean(dim=(-1, -2))
    means = others.mean(dim=-1)
    gaps = (means - support.mean(dim=-1)) / means.abs().clamp(min=1e-12)
    auroc, gap = (score(mean_of(v.mean(dim=0)), v.shape[1]).estimate for v in (aurocs, gaps))
    low, high = max(auroc.low, 0.0), min(auroc.high, 1.0)
    return Membership(Estimate(auroc.value, low, high), gap)
