"""Generators: networks with the objective they minimise and a way to draw images from them.

A new generator is one file here and one line in the registry.
"""

from metatrain.generators.generator import Generator
from metatrain.generators.unet import UNet

GENERATORS: dict[str, type[Generator]] = {"unet": UNet}

__all__ = ["GENERATORS", "Generator"]
