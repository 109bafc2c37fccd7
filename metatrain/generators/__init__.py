"""Generators: a network, an objective, a sampler and a codec, composed.

A new part is one file in its folder, with its section, and one line in its registry here, or
another package's entry point. `learning`, `model` and the rooms above import from here; this room
imports `base` and `data`.
"""

from typing import TYPE_CHECKING

from metatrain.base.lazy_names import lazy_names
from metatrain.base.registry import BuiltIn, Registry
from metatrain.generators.codecs.sections import (
    AutoencoderKLConfig,
    AutoencoderTinyConfig,
    IdentityConfig,
    TAEF2Config,
    TrainedConfig,
)
from metatrain.generators.combined.sections import (
    EnsembleConfig,
    GANMixtureConfig,
    MixtureConfig,
)
from metatrain.generators.networks.registry import NETWORKS
from metatrain.generators.networks.sections import (
    AutoencoderConfig,
    BackboneConfig,
    EDSRConfig,
    NetworkConfig,
    RefinerConfig,
    ResidualConfig,
    SpanConfig,
)
from metatrain.generators.objectives.sections import (
    AdversarialConfig,
    AutoencodeConfig,
    DistillConfig,
    FlowConfig,
    MeanFlowConfig,
    ObjectiveConfig,
    PreferenceConfig,
    RefineConfig,
    ScheduledConfig,
    SuperResolutionConfig,
)

if TYPE_CHECKING:
    from metatrain.generators.codecs.codec import Codec
    from metatrain.generators.generator import Generator
    from metatrain.generators.networks.network import Network
    from metatrain.generators.objectives.objective import (
        NOTHING,
        Draw,
        ErrorsByExample,
        Objective,
        Term,
    )

_OBJECTIVES, _CODECS = f"{__name__}.objectives", f"{__name__}.codecs"

# The first of each is the default.
GENERATORS: "Registry[type[Network]]" = Registry(
    {
        **NETWORKS.built_in,
        "ensemble": BuiltIn(EnsembleConfig, f"{__name__}.combined.ensemble:Ensemble"),
        "mixture": BuiltIn(MixtureConfig, f"{__name__}.combined.mixture:Mixture"),
        "gan_mixture": BuiltIn(GANMixtureConfig, f"{__name__}.combined.gan_mixture:GANMixture"),
        "diffusers": BuiltIn(BackboneConfig, f"{__name__}.networks.backbone:Backbone"),
        "residual": BuiltIn(ResidualConfig, f"{__name__}.networks.residual:Residual"),
        "edsr": BuiltIn(EDSRConfig, f"{__name__}.networks.edsr:EDSR"),
        "span": BuiltIn(SpanConfig, f"{__name__}.networks.span:Span"),
        "autoencoder": BuiltIn(AutoencoderConfig, f"{__name__}.networks.autoencoder:Autoencoder"),
        "refiner": BuiltIn(RefinerConfig, f"{__name__}.networks.refiner:Refiner"),
    },
    group="metatrain.generators",
    base=NetworkConfig,
)
OBJECTIVES: "Registry[type[Objective]]" = Registry(
    {
        "flow": BuiltIn(FlowConfig, f"{_OBJECTIVES}.flow:FlowMatching"),
        "meanflow": BuiltIn(MeanFlowConfig, f"{_OBJECTIVES}.meanflow:MeanFlow"),
        "distill": BuiltIn(DistillConfig, f"{_OBJECTIVES}.distill:Distill"),
        "diffusers": BuiltIn(ScheduledConfig, f"{_OBJECTIVES}.scheduled:Scheduled"),
        "super_resolution": BuiltIn(
            SuperResolutionConfig, f"{_OBJECTIVES}.super_resolution:SuperResolution"
        ),
        "adversarial": BuiltIn(AdversarialConfig, f"{_OBJECTIVES}.adversarial:Adversarial"),
        "autoencode": BuiltIn(AutoencodeConfig, f"{_OBJECTIVES}.autoencode:Autoencode"),
        "refine": BuiltIn(RefineConfig, f"{_OBJECTIVES}.refine:Refine"),
        "preference": BuiltIn(PreferenceConfig, f"{_OBJECTIVES}.preference:Preference"),
    },
    group="metatrain.objectives",
    base=ObjectiveConfig,
)
CODECS: "Registry[type[Codec]]" = Registry(
    {
        "identity": BuiltIn(IdentityConfig, f"{_CODECS}.codec:Identity"),
        "autoencoder_kl": BuiltIn(AutoencoderKLConfig, f"{_CODECS}.autoencoders:AutoencoderKL"),
        "autoencoder_tiny": BuiltIn(
            AutoencoderTinyConfig, f"{_CODECS}.autoencoders:AutoencoderTiny"
        ),
        "taef2": BuiltIn(TAEF2Config, f"{_CODECS}.taef2:TAEF2"),
        "trained": BuiltIn(TrainedConfig, f"{_CODECS}.trained:Trained"),
    },
    group="metatrain.codecs",
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
    "NetworkConfig",
    "Objective",
    "ObjectiveConfig",
    "Term",
]

__getattr__ = lazy_names(
    __name__,
    {
        "NOTHING": f"{_OBJECTIVES}.objective",
        "Codec": f"{_CODECS}.codec",
        "Draw": f"{_OBJECTIVES}.objective",
        "ErrorsByExample": f"{_OBJECTIVES}.objective",
        "Generator": f"{__name__}.generator",
        "Network": f"{__name__}.networks.network",
        "Objective": f"{_OBJECTIVES}.objective",
        "Term": f"{_OBJECTIVES}.objective",
    },
)
