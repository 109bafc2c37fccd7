"""Body only update in the inner loop."""

from metatrain.learning.learners.maml import MAML
from metatrain.learning.learners.sections import BOILConfig


class BOIL(MAML):
    """BOIL (Oh et al. 2021, "BOIL: Towards Representation Change for Few-shot Learning").

    g = 1/M sum_i d/dtheta L(U_k(theta; S_i); Q_i), U_k moving all but the head

    Cost: as MAML.
    Memory: as MAML.
    Use: tasks that need different features, as across domains.
    """

    Config = BOILConfig
