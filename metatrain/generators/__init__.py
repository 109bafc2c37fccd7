"""Generators: networks with the objective they minimise and a way to draw images from them.

A new generator is one file here and one line in the registry.
"""

from metatrain.generators.dit import DiT
from metatrain.generators.generator import Draw, Generator
from metatrain.generators.unet import UNet

GENERATORS: dict[str, type[Generator]] = {"unet": UNet, "dit": DiT}

__all__ = ["GENERATORS", "Draw", "Generator"]
