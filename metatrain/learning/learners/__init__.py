"""Learners, which turn episodes into outer gradients.

A new one is a file with its section and a line here, or another package's entry point.
"""

from typing import TYPE_CHECKING

from metatrain.base.lazy_names import lazy_names
from metatrain.base.registry import BuiltIn, Registry
from metatrain.learning.learners.sections import (
    ADMMConfig,
    ALFAConfig,
    ANILConfig,
    BOILConfig,
    CAVIAConfig,
    FOMAMLConfig,
    IMAMLConfig,
    JointConfig,
    LearnerConfig,
    MAMLConfig,
    MAMLPlusPlusConfig,
    MetaSGDConfig,
    MTLConfig,
    ReptileConfig,
)

if TYPE_CHECKING:
    from metatrain.learning.learners.learner import Gather, Learner, OuterGradient
    from metatrain.learning.learners.reptile import Reptile

LEARNERS: "Registry[type[Learner]]" = Registry(
    {
        "reptile": BuiltIn(ReptileConfig, f"{__name__}.reptile:Reptile"),
        "joint": BuiltIn(JointConfig, f"{__name__}.joint:Joint"),
        "mtl": BuiltIn(MTLConfig, f"{__name__}.mtl:MTL"),
        "fomaml": BuiltIn(FOMAMLConfig, f"{__name__}.fomaml:FOMAML"),
        "maml": BuiltIn(MAMLConfig, f"{__name__}.maml:MAML"),
        "anil": BuiltIn(ANILConfig, f"{__name__}.anil:ANIL"),
        "boil": BuiltIn(BOILConfig, f"{__name__}.boil:BOIL"),
        "cavia": BuiltIn(CAVIAConfig, f"{__name__}.cavia:CAVIA"),
        "meta-sgd": BuiltIn(MetaSGDConfig, f"{__name__}.meta_sgd:MetaSGD"),
        "maml++": BuiltIn(MAMLPlusPlusConfig, f"{__name__}.maml_plus_plus:MAMLPlusPlus"),
        "alfa": BuiltIn(ALFAConfig, f"{__name__}.alfa:ALFA"),
        "imaml": BuiltIn(IMAMLConfig, f"{__name__}.imaml:IMAML"),
        "admm": BuiltIn(ADMMConfig, f"{__name__}.admm:ADMM"),
    },
    group="metatrain.learners",
    base=LearnerConfig,
)

__all__ = ["LEARNERS", "Gather", "Learner", "LearnerConfig", "OuterGradient", "Reptile"]

__getattr__ = lazy_names(
    __name__,
    {
        "Gather": f"{__name__}.learner",
        "Learner": f"{__name__}.learner",
        "OuterGradient": f"{__name__}.learner",
        "Reptile": f"{__name__}.reptile",
    },
)
