"""Sections of the codecs, read without torch."""

from typing import Literal

from metatrain.base.section import Section
from metatrain.generators.frozen import FrozenWeights
from metatrain.generators.frozen_folder import FrozenFolder


class IdentityConfig(Section):
    """No settings."""

    name: Literal["identity"] = "identity"


class AutoencoderKLConfig(FrozenFolder):
    """The autoencoder of Stable Diffusion and others, by its folder."""

    name: Literal["autoencoder_kl"] = "autoencoder_kl"


class AutoencoderTinyConfig(FrozenFolder):
    """A tiny autoencoder (TAESD and others), by its folder."""

    name: Literal["autoencoder_tiny"] = "autoencoder_tiny"


class TAEF2Config(Section):
    """The two files of TAEF2 (taef2_encoder and taef2_decoder, as safetensors)."""

    name: Literal["taef2"] = "taef2"
    encoder: FrozenWeights
    decoder: FrozenWeights


class TrainedConfig(FrozenWeights):
    """The file that `metatrain codec train` writes."""

    name: Literal["trained"] = "trained"
