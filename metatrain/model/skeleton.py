"""The skeleton of a model: the names and shapes of its tensors, made before a file is believed."""

import torch

from metatrain.base.errors import UserError
from metatrain.base.text import reason_of
from metatrain.config import Config
from metatrain.generators.parameter_bound import at_most
from metatrain.learning.inner.theta import Theta
from metatrain.model.build import build_theta

# Parameters that may be made for each of a file: a parametrized one is made thrice.
_EACH = 3
# Parameters that no file holds, such as a frozen backbone's. Making so many takes seconds.
_FROZEN = 2000


def skeleton(config: Config, tensors: int) -> Theta:
    """Make the meta-parameters of `config` without their values, for a file of so many tensors.

    Raises:
        UserError: when there would be far more, or none can be made.
    """
    try:
        with torch.device("meta"), at_most(_FROZEN + _EACH * tensors):
            return build_theta(config)
    except UserError:
        raise
    except (RuntimeError, OverflowError, MemoryError, TypeError, ValueError) as error:
        raise UserError(f"its configuration cannot be built: {reason_of(error)}") from error
