"""Learners, which turn episodes into outer gradients.

A new one is a file and a line here, or another package's entry point.
"""

from metatrain.base.registry import Registry
from metatrain.learning.learners.admm import ADMM
from metatrain.learning.learners.alfa import ALFA
from metatrain.learning.learners.anil import ANIL
from metatrain.learning.learners.boil import BOIL
from metatrain.learning.learners.cavia import CAVIA
from metatrain.learning.learners.fomaml import FOMAML
from metatrain.learning.learners.imaml import IMAML
from metatrain.learning.learners.joint import Joint
from metatrain.learning.learners.learner import Gather, Learner, OuterGradient
from metatrain.learning.learners.maml import MAML
from metatrain.learning.learners.maml_plus_plus import MAMLPlusPlus
from metatrain.learning.learners.meta_sgd import MetaSGD
from metatrain.learning.learners.mtl import MTL
from metatrain.learning.learners.reptile import Reptile

LEARNERS: Registry[type[Learner]] = Registry(
    "metatrain.learners",
    {
        "reptile": Reptile,
        "joint": Joint,
        "mtl": MTL,
        "fomaml": FOMAML,
        "maml": MAML,
        "anil": ANIL,
        "boil": BOIL,
        "cavia": CAVIA,
        "meta-sgd": MetaSGD,
        "maml++": MAMLPlusPlus,
        "alfa": ALFA,
        "imaml": IMAML,
        "admm": ADMM,
    },
)

__all__ = ["LEARNERS", "Gather", "Learner", "OuterGradient", "Reptile"]
