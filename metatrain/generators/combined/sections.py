"""Sections of the networks that combine others, read without torch."""

from typing import Literal

from pydantic import Field

from metatrain.base.section import section_of
from metatrain.generators.networks.registry import NETWORKS
from metatrain.generators.networks.sections import NetworkConfig, ResNetGANConfig, UNetConfig


class EnsembleConfig(NetworkConfig):
    """The members of an ensemble."""

    scope = "head"

    name: Literal["ensemble"] = "ensemble"
    of: section_of(NETWORKS.sections) = UNetConfig()  # pyright: ignore[reportInvalidTypeForm]
    members: int = Field(
        default=2, ge=1, le=64, description="Number of networks, with separate weights."
    )


class MixtureConfig(NetworkConfig):
    """The network of a mixture and the number of its task vectors."""

    scope = "head"

    name: Literal["mixture"] = "mixture"
    of: section_of(NETWORKS.sections) = UNetConfig()  # pyright: ignore[reportInvalidTypeForm]
    vectors: int = Field(default=1, ge=1, le=64, description="Task vectors that can be added.")


class GANMixtureConfig(NetworkConfig):
    """The players of a mixture and the number of their task vectors."""

    scope = "head"

    name: Literal["gan_mixture"] = "gan_mixture"
    of: section_of(NETWORKS.sections) = ResNetGANConfig()  # pyright: ignore[reportInvalidTypeForm]
    vectors: int = Field(default=1, ge=1, le=64, description="Task vectors that can be added.")
