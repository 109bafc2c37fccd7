"""The networks that stand alone, and that an ensemble or a mixture is made of."""

from collections.abc import Mapping

from metatrain.generators.networks.dit import DiT
from metatrain.generators.networks.network import Network
from metatrain.generators.networks.unet import UNet

NETWORKS: Mapping[str, type[Network]] = {"unet": UNet, "dit": DiT}
