"""Generators: networks with the objective they minimise and a way to draw images from them.

A new generator is one file here and one line in the registry.
"""

from metatrain.generators.combined.ensemble import Ensemble
from metatrain.generators.combined.mixture import Mixture
from metatrain.generators.generator import Draw, Generator
from metatrain.generators.networks.dit import DiT
from metatrain.generators.networks.registry import NETWORKS
from metatrain.generators.networks.unet import UNet

# The first is the default.
GENERATORS: dict[str, type[Generator]] = {**NETWORKS, "ensemble": Ensemble, "mixture": Mixture}

__all__ = ["GENERATORS", "NETWORKS", "DiT", "Draw", "Generator", "UNet"]
