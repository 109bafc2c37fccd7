"""Who does what in an outer step: how workers, groups and episodes come out."""

from dataclasses import dataclass

from metatrain.base.errors import UserError
from metatrain.config import Config


@dataclass(frozen=True)
class Layout:
    """Workers as groups that each hold one copy of what ZeRO shards.

    Attributes:
        workers: all of them.
        shards: workers of a group.
        sharded: whether a group takes its episodes together, its inner loop on shards.
        episodes: of the busiest worker, or of the busiest group where it takes them together.
    """

    workers: int
    shards: int
    sharded: bool
    episodes: int

    @property
    def groups(self) -> int:
        """Copies of what is sharded."""
        return self.workers // self.shards

    @property
    def together(self) -> int:
        """Workers that take an episode together, each a part of its images."""
        return self.shards if self.sharded else 1


def layout_of(config: Config, per_node: int, *, sharded: bool) -> Layout:
    """How `config` comes out on nodes of `per_node` workers.

    Raises:
        UserError: when groups do not come out even.
    """
    workers = config.cluster.workers
    node = per_node if workers % per_node == 0 else workers
    shards = config.cluster.shards_per_group or node
    if workers % shards:
        raise UserError(
            f"cluster.shards_per_group is {shards}, which does not divide the {workers} workers; "
            f"choose a divisor of cluster.workers."
        )
    takers = workers // shards if sharded else workers
    return Layout(workers, shards, sharded, -(-config.meta.batch // takers))
