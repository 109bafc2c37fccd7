"""The layout of an outer step: workers, groups and episodes."""

from dataclasses import dataclass

from metatrain.base.errors import UserError
from metatrain.config import Config


@dataclass(frozen=True)
class Layout:
    """Workers as groups that each hold one copy of what ZeRO shards.

    Attributes:
        workers: number of all workers.
        shards: number of workers per group.
        sharded: whether a group takes its episodes together, with its inner loop on shards.
        episodes: episodes of the busiest worker, or of the busiest group if `sharded`.
    """

    workers: int
    shards: int
    sharded: bool
    episodes: int

    @property
    def groups(self) -> int:
        """Number of groups, each with one copy of what is sharded."""
        return self.workers // self.shards

    @property
    def together(self) -> int:
        """Number of workers that share the images of one episode."""
        return self.shards if self.sharded else 1


def layout_of(config: Config, per_node: int, *, sharded: bool) -> Layout:
    """Lay out `config` on nodes of `per_node` workers.

    Raises:
        UserError: when the size of groups does not divide the workers.
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
