"""Almost no inner loop."""

from metatrain.learning.learners.maml import MAML
from metatrain.learning.learners.sections import ANILConfig


class ANIL(MAML):
    """ANIL (Raghu et al. 2020, "Rapid Learning or Feature Reuse?", section 4).

    g = 1/M sum_i d/dtheta L(U_k(theta; S_i); Q_i), U_k moving the head alone

    Cost: as MAML.
    Memory: one inner step's graph and k copies of the head.
    Use: tasks that combine the same features differently.
    """

    Config = ANILConfig
