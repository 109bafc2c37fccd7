"""Networks that predict a velocity, conditioned on a support."""

from abc import abstractmethod

from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.generators.networks.network import Network


class VelocityNetwork(Network):
    """A velocity field over examples, conditioned on a set of examples."""

    @abstractmethod
    def encode(self, support: Tensor) -> Tensor:
        """Encode the support [K, C, H, W] as memory [K, ...], one row per example."""

    @abstractmethod
    def velocity(self, x: Tensor, t: Tensor, memory: Tensor, visible: Tensor) -> Tensor:
        """Predict the velocity [B, C, H, W] at `x` and times `t` [B].

        Args:
            x: [B, C, H, W].
            t: [B] in [0, 1].
            memory: rows [K, ...] that `encode` made.
            visible: [B, K], True where an example may see a row; with no row visible the
                velocity is the unconditional flow's.
        """

    def embed(self, examples: Tensor) -> Tensor:
        """Embed examples [B, C, H, W] as [B, E]: the mean of their memory over places."""
        return self.encode(examples).flatten(1, -2).mean(dim=1)


def refuse_uneven_patches(side: int, patch: int) -> None:
    """Raise a UserError where examples cannot be cut into whole patches of `patch` a side."""
    if side % patch:
        raise UserError(
            f"examples of {side} a side (data.image_size, as the codec leaves it) cannot be cut "
            f"into patches of generator.patch={patch}; choose a multiple."
        )
