"""Generators: a network, an objective, a sampler and a codec, composed.

A new part is one file in its folder and one line in its registry here, or another package's entry
point. `learning`, `model` and the rooms above import from here; this room imports `base` and
`data`.
"""

from collections.abc import Mapping

from metatrain.base.registry import Registry
from metatrain.generators.codecs.autoencoders import AutoencoderKL, AutoencoderTiny
from metatrain.generators.codecs.codec import Codec, Identity
from metatrain.generators.codecs.taef2 import TAEF2
from metatrain.generators.codecs.trained import Trained
from metatrain.generators.combined.ensemble import Ensemble
from metatrain.generators.combined.gan_mixture import GANMixture
from metatrain.generators.combined.mixture import Mixture
from metatrain.generators.generator import Generator
from metatrain.generators.networks.autoencoder import Autoencoder
from metatrain.generators.networks.backbone import Backbone
from metatrain.generators.networks.edsr import EDSR
from metatrain.generators.networks.network import Network
from metatrain.generators.networks.refiner import Refiner
from metatrain.generators.networks.registry import NETWORKS
from metatrain.generators.networks.residual import Residual
from metatrain.generators.networks.span import Span
from metatrain.generators.objectives.adversarial import Adversarial
from metatrain.generators.objectives.autoencode import Autoencode
from metatrain.generators.objectives.distill import Distill
from metatrain.generators.objectives.flow import FlowMatching
from metatrain.generators.objectives.meanflow import MeanFlow
from metatrain.generators.objectives.objective import (
    NOTHING,
    Draw,
    ErrorsByExample,
    Objective,
    Term,
)
from metatrain.generators.objectives.preference import Preference
from metatrain.generators.objectives.refine import Refine
from metatrain.generators.objectives.scheduled import Scheduled
from metatrain.generators.objectives.super_resolution import SuperResolution

# The first of each is the default.
GENERATORS: Mapping[str, type[Network]] = Registry(
    "metatrain.generators",
    {
        **NETWORKS,
        "ensemble": Ensemble,
        "mixture": Mixture,
        "gan_mixture": GANMixture,
        "diffusers": Backbone,
        "residual": Residual,
        "edsr": EDSR,
        "span": Span,
        "autoencoder": Autoencoder,
        "refiner": Refiner,
    },
)
OBJECTIVES: Mapping[str, type[Objective]] = Registry(
    "metatrain.objectives",
    {
        "flow": FlowMatching,
        "meanflow": MeanFlow,
        "distill": Distill,
        "diffusers": Scheduled,
        "super_resolution": SuperResolution,
        "adversarial": Adversarial,
        "autoencode": Autoencode,
        "refine": Refine,
        "preference": Preference,
    },
)
CODECS: Mapping[str, type[Codec]] = Registry(
    "metatrain.codecs",
    {
        "identity": Identity,
        "autoencoder_kl": AutoencoderKL,
        "autoencoder_tiny": AutoencoderTiny,
        "taef2": TAEF2,
        "trained": Trained,
    },
)

__all__ = [
    "CODECS",
    "GENERATORS",
    "NETWORKS",
    "NOTHING",
    "OBJECTIVES",
    "Codec",
    "Draw",
    "ErrorsByExample",
    "Generator",
    "Network",
    "Objective",
    "Term",
]
