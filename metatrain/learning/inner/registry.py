"""The scopes, by name."""

from typing import TYPE_CHECKING

from metatrain.base.registry import BuiltIn, Registry
from metatrain.learning.inner.sections import (
    AllScopeConfig,
    AttentionScopeConfig,
    BodyScopeConfig,
    ContextScopeConfig,
    FilmScopeConfig,
    HeadScopeConfig,
    LoRAMixtureScopeConfig,
    LoRAScopeConfig,
    NormsScopeConfig,
)

if TYPE_CHECKING:
    from metatrain.learning.inner.scope import Scope

_FOLDER = "metatrain.learning.inner"

SCOPES: "Registry[type[Scope]]" = Registry(
    {
        "all": BuiltIn(AllScopeConfig, f"{_FOLDER}.scope:All"),
        "film": BuiltIn(FilmScopeConfig, f"{_FOLDER}.layer_scopes:Film"),
        "norms": BuiltIn(NormsScopeConfig, f"{_FOLDER}.layer_scopes:Norms"),
        "attention": BuiltIn(AttentionScopeConfig, f"{_FOLDER}.layer_scopes:Attention"),
        "lora": BuiltIn(LoRAScopeConfig, f"{_FOLDER}.scopes:LoRA"),
        "lora_mixture": BuiltIn(LoRAMixtureScopeConfig, f"{_FOLDER}.scopes:LoRAMixture"),
        "head": BuiltIn(HeadScopeConfig, f"{_FOLDER}.scopes:Head"),
        "body": BuiltIn(BodyScopeConfig, f"{_FOLDER}.scopes:Body"),
        "context": BuiltIn(ContextScopeConfig, f"{_FOLDER}.scopes:ContextScope"),
    }
)
