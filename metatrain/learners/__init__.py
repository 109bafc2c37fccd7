"""Learners: each turns an episode into an outer gradient. A new one is a file and a line here."""

from metatrain.learners.fomaml import FOMAML
from metatrain.learners.joint import Joint
from metatrain.learners.learner import Learner, OuterGradient
from metatrain.learners.reptile import Reptile

LEARNERS: dict[str, type[Learner]] = {"reptile": Reptile, "fomaml": FOMAML, "joint": Joint}

__all__ = ["LEARNERS", "Learner", "OuterGradient", "Reptile"]
