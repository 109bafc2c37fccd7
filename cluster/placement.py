"""Place tasks and actors on given nodes of a Ray cluster."""

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


def on_node(node_id: str) -> NodeAffinitySchedulingStrategy:
    """Require one node; a task or an actor fails where that node is gone."""
    return NodeAffinitySchedulingStrategy(node_id, soft=False)


def beside_driver() -> NodeAffinitySchedulingStrategy:
    """Require the node of this process, so that no loss of another node ends the actor."""
    return on_node(ray.get_runtime_context().get_node_id())
