"""The networks that can be used alone, or as members of an ensemble or a mixture."""

from typing import TYPE_CHECKING

from metatrain.base.registry import BuiltIn, Registry
from metatrain.generators.networks.sections import (
    DiTConfig,
    FastGANConfig,
    ResNetGANConfig,
    UNetConfig,
)

if TYPE_CHECKING:
    from metatrain.generators.networks.network import Network

_FOLDER = "metatrain.generators.networks"

NETWORKS: "Registry[type[Network]]" = Registry(
    {
        "unet": BuiltIn(UNetConfig, f"{_FOLDER}.unet:UNet"),
        "dit": BuiltIn(DiTConfig, f"{_FOLDER}.dit:DiT"),
        "resnet_gan": BuiltIn(ResNetGANConfig, f"{_FOLDER}.resnet_gan:ResNetGAN"),
        "fastgan": BuiltIn(FastGANConfig, f"{_FOLDER}.fastgan:FastGAN"),
    }
)
