"""The configuration: one typed, frozen tree, read from YAML with dotted overrides.

sections -> tree -> layers, mistakes -> reading; values compares and writes them
"""

from metatrain.base.section import Location, StableName
from metatrain.config.reading import (
    load_config,
    load_values,
    override_values,
    parse_config,
    read_yaml,
    with_values,
)
from metatrain.config.sections import CheckpointConfig, ClusterConfig, MetaConfig
from metatrain.config.tree import COMPONENTS, Config
from metatrain.config.values import chosen, differences, leaves, non_defaults, to_yaml
from metatrain.config.yaml_values import written
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
    "chosen",
    "differences",
    "leaves",
    "load_config",
    "load_values",
    "non_defaults",
    "override_values",
    "parse_config",
    "read_yaml",
    "to_yaml",
    "with_values",
    "written",
]
