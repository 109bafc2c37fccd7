"""The networks that stand on their own, and that an ensemble or a mixture may be made of."""

from metatrain.generators.networks.dit import DiT
from metatrain.generators.networks.unet import UNet
from metatrain.generators.networks.velocity import FlowGenerator

NETWORKS: dict[str, type[FlowGenerator]] = {"unet": UNet, "dit": DiT}
