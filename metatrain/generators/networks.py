"""The networks that stand on their own, and that an ensemble or a mixture may be made of."""

from metatrain.generators.dit import DiT
from metatrain.generators.flow import FlowGenerator
from metatrain.generators.unet import UNet

NETWORKS: dict[str, type[FlowGenerator]] = {"unet": UNet, "dit": DiT}
