"""LoRAs that people have, as the start of a run: their mean, or a mixture of them.

The backbone is theta_0, and with the i-th LoRA its weights are theta_0 + P_i, where P_i is the
product of a layer's factors. Factors of separate trainings share no basis, so that products are
combined, and never factors.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch

from metatrain.base.errors import UserError
from metatrain.base.progress import tracked
from metatrain.combine.learned import MIXTURE_LR
from metatrain.combine.lora_files import LoRATerm, read_lora
from metatrain.config import Config, parse_config
from metatrain.generators.frozen import pinned
from metatrain.generators.networks.backbone import Backbone
from metatrain.learning.inner.low_rank import LowRank, low_rank_terms
from metatrain.learning.inner.theta import Theta
from metatrain.model.build import build_theta
from metatrain.model.model import Model

Members = Sequence[Mapping[str, LoRATerm]]


class LowRankMean(NamedTuple):
    """A mean of LoRAs.

    Attributes:
        model: in the scope `lora`.
        kept: the share of the squared norm of the mean's terms that the rank leaves.
    """

    model: Model
    kept: float


def mean_of_loras(config: Config, urls: Sequence[str], strength: float = 1.0) -> LowRankMean:
    """Return theta_0 + strength / M sum_i P_i, truncated to `inner.scope.rank`.

    With a strength of 1 it is a soup (Wortsman et al. 2022); below, a step of Reptile from theta_0
    (Nichol et al. 2018, algorithm 2, whose epsilon it is).

    Args:
        config: a configuration with the scope `lora` over a frozen backbone.
        urls: the LoRA files.
        strength: of the mean.

    Raises:
        UserError: when the configuration has no such scope or backbone, or a file cannot be used.
    """
    members, config = _members(config, urls), pinned(config)
    theta, kept, whole = build_theta(config), 0.0, 0.0
    for layer, term in low_rank_terms(_backbone(theta).model).items():
        terms = [member[layer] for member in members if layer in member]
        if not terms:
            continue
        down = torch.cat([part.down for part in terms])
        up = torch.cat([part.up for part in terms], dim=1) * (strength / len(members))
        before = _squared_norm(LoRATerm(down, up))
        part = truncated(LoRATerm(down, up), sum(term.ranks))
        whole, kept = whole + before, kept + _squared_norm(part)
        _fill(term, part)
    return LowRankMean(Model(config, theta.copy(), 0), kept / whole if whole else 1.0)


def mixture_of_loras(config: Config, urls: Sequence[str]) -> Model:
    """Return theta_0 + sum_i alpha_i P_i; alpha, at first 1 / M each, is what adapting moves.

    Raises:
        UserError: as `mean_of_loras`.
    """
    members = _members(config, urls)
    ranks = [max(len(part.down) for part in member.values()) for member in members]
    values = config.model_dump()
    targets = values["inner"]["scope"]["target_modules"]
    scope = {"name": "lora_mixture", "ranks": ranks, "target_modules": targets}
    values["inner"] |= {"scope": scope, "optimizer": "adam"}
    values["adapt"] |= {"lr": MIXTURE_LR}
    mixed = pinned(parse_config(values))
    theta = build_theta(mixed)
    for layer, term in low_rank_terms(_backbone(theta).model).items():
        for place, rank, member in zip(_places(term), term.ranks, members, strict=True):
            if layer in member:
                _fill(term, truncated(member[layer], rank), place)
    return Model(mixed, theta.copy(), 0)


def truncated(term: LoRATerm, rank: int) -> LoRATerm:
    """Return the term of at most this rank that is next to `term` (Eckart and Young 1936).

    What has this rank already stays as it is, without the components that are 0.
    """
    used = term.down.any(dim=1) & term.up.any(dim=0)
    term = LoRATerm(term.down[used], term.up[:, used])
    if len(term.down) <= rank:
        return term
    # The product itself is never made: it is as large as the layer's weight.
    left, small = torch.linalg.qr(term.up.double())
    right, other = torch.linalg.qr(term.down.double().T)
    u, sizes, v = torch.linalg.svd(small @ other.T, full_matrices=False)
    roots = sizes[:rank].sqrt()
    down, up = roots[:, None] * (v[:rank] @ right.T), left @ u[:, :rank] * roots
    return LoRATerm(down.float(), up.float())


def _members(config: Config, urls: Sequence[str]) -> Members:
    """Read the files, before the weights of their backbone are read."""
    _check(config, urls)
    with torch.device("meta"):
        backbone = _backbone(build_theta(config))
    return [read_lora(url, backbone) for url in tracked("reading", urls, len(urls))]


def _check(config: Config, urls: Sequence[str]) -> None:
    if twice := [url for i, url in enumerate(urls) if url in urls[:i]]:
        raise UserError(f"{twice[0]} is given twice; give each LoRA once.")
    if config.inner.scope.name != "lora":
        raise UserError(
            f"the configuration has inner.scope.name={config.inner.scope.name}, and LoRAs start "
            f"runs in the scope lora; set it."
        )
    generator = config.generator.model_dump()
    if generator["name"] != "diffusers" or generator["init"] != "pretrained":
        raise UserError(
            "the configuration has no pretrained backbone, which LoRAs are for; set "
            "generator.name=diffusers and its path."
        )


def _backbone(theta: Theta) -> Backbone:
    network = theta.generator.network
    assert isinstance(network, Backbone)
    return network


def _places(term: LowRank) -> list[slice]:
    """Return the components of each member within a term."""
    ends = accumulate(term.ranks, initial=0)
    return [slice(start, end) for start, end in pairwise(ends)]


@torch.no_grad()
def _fill(term: LowRank, part: LoRATerm, place: slice = slice(None)) -> None:
    """Set the components of a term at `place`; those that `part` lacks keep up = 0.

    Their `down` stays random, so that training can use them.
    """
    rank = len(part.down)
    term.down[place][:rank] = part.down
    term.up[:, place][:, :rank] = part.up / term.scale


def _squared_norm(term: LoRATerm) -> float:
    """Return |up down|^2, without the product."""
    inner = (term.up.double().T @ term.up.double()) * (term.down.double() @ term.down.double().T)
    return inner.sum().item()
