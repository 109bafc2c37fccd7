"""Generators: networks with the objective they minimise and a way to draw images from them.

A new generator is one file here and one line in the registry.
"""

from metatrain.generators.dit import DiT
from metatrain.generators.ensemble import Ensemble
from metatrain.generators.generator import Draw, Generator
from metatrain.generators.mixture import Mixture
from metatrain.generators.networks import NETWORKS
from metatrain.generators.unet import UNet

# The first is the default.
GENERATORS: dict[str, type[Generator]] = {**NETWORKS, "ensemble": Ensemble, "mixture": Mixture}

__all__ = ["GENERATORS", "NETWORKS", "DiT", "Draw", "Generator", "UNet"]
