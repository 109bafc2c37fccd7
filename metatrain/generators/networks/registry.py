"""The networks that can be used alone, or as members of an ensemble or a mixture."""

from collections.abc import Mapping

from metatrain.generators.networks.dit import DiT
from metatrain.generators.networks.fastgan import FastGAN
from metatrain.generators.networks.network import Network
from metatrain.generators.networks.resnet_gan import ResNetGAN
from metatrain.generators.networks.unet import UNet

NETWORKS: Mapping[str, type[Network]] = {
    "unet": UNet,
    "dit": DiT,
    "resnet_gan": ResNetGAN,
    "fastgan": FastGAN,
}
