"""Learners: each turns an episode into an outer gradient. A new one is a file and a line here."""

from metatrain.learners.admm import ADMM
from metatrain.learners.alfa import ALFA
from metatrain.learners.anil import ANIL
from metatrain.learners.boil import BOIL
from metatrain.learners.cavia import CAVIA
from metatrain.learners.fomaml import FOMAML
from metatrain.learners.imaml import IMAML
from metatrain.learners.joint import Joint
from metatrain.learners.learner import Gather, Learner, OuterGradient
from metatrain.learners.maml import MAML
from metatrain.learners.maml_plus_plus import MAMLPlusPlus
from metatrain.learners.meta_sgd import MetaSGD
from metatrain.learners.mtl import MTL
from metatrain.learners.reptile import Reptile

LEARNERS: dict[str, type[Learner]] = {
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
}

__all__ = ["LEARNERS", "Gather", "Learner", "OuterGradient", "Reptile"]
