"""The configuration: one typed, frozen tree, read from YAML with dotted overrides.

sections -> tree -> reading; values compares and writes them
"""

from metatrain.base.section import Location, StableName
from metatrain.config.reading import load_config, load_values, parse_config, with_values
from metatrain.config.sections import CheckpointConfig, ClusterConfig, MetaConfig
from metatrain.config.tree import COMPONENTS, Config
from metatrain.config.values import differences, leaves, non_defaults, to_yaml, written
from metatrain.data.config import DataConfig

__all__ = [
    "COMPONENTS",
    "CheckpointConfig",
    "ClusterConfig",
    "Config",
    "DataConfig",
    "Location",
    "MetaConfig",
    "StableName",
    "differences",
    "leaves",
    "load_config",
    "load_values",
    "non_defaults",
    "parse_config",
    "to_yaml",
    "with_values",
    "written",
]
