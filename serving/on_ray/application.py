"""The application of Ray Serve, which a RayService names as `serving.on_ray.application:build`."""

from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve import Application

import cluster  # noqa: F401  it sets the environment that Ray reads when it is imported
from serving.limits import Limits
from serving.on_ray.front import Front
from serving.on_ray.replicas import FRONT, AdaptingReplica, DrawingReplica
from serving.on_ray.settings import ServiceSettings
from serving.tokens import Client, clients_in

# Requests that a replica computes in turn, and those from which on there should be another one.
_ADAPTING, _ADAPTING_TARGET = 4, 2
_DRAWING, _DRAWING_TARGET = 64, 16
# Serve's own access log would name every path, and ids are secrets.
_QUIET = {"log_level": "WARNING", "enable_access_log": False}


def build(settings: ServiceSettings) -> Application:
    """Build the application.

    A configuration of Serve may give the deployments `Adapter` and `Sampler` other options, such
    as `autoscaling_config` and `ray_actor_options`.

    Raises:
        UserError: when the file of the clients cannot be used.
    """
    return bind(Front, settings, clients_in(settings.clients))


def bind(
    front: type[Front], settings: ServiceSettings, clients: Mapping[str, Client]
) -> Application:
    """Bind the deployments to each other.

    Args:
        front: the class of the API's deployment.
        settings: the settings.
        clients: the clients by name.
    """
    options: Any = {
        "ray_actor_options": {"num_cpus": settings.cpus, "num_gpus": settings.gpus},
        "logging_config": _QUIET,
        # A replica that is not needed any more may end what it computes.
        "graceful_shutdown_timeout_s": Limits().seconds,
    }

    def scaled(target: int) -> dict[str, Any]:
        return {
            "min_replicas": settings.least,
            "max_replicas": settings.replicas,
            "target_ongoing_requests": target,
        }

    adapter = serve.deployment(
        name="Adapter",
        max_ongoing_requests=_ADAPTING,
        autoscaling_config=scaled(_ADAPTING_TARGET),
        **options,
    )(AdaptingReplica)
    sampler = serve.deployment(
        name="Sampler",
        max_ongoing_requests=_DRAWING,
        autoscaling_config=scaled(_DRAWING_TARGET),
        **options,
    )(DrawingReplica)
    api = serve.deployment(
        name=FRONT,
        num_replicas=1,
        # The application refuses what is beyond its own bound, in a sentence.
        max_ongoing_requests=4 * Limits().requests,
        ray_actor_options={"num_cpus": 1},
        logging_config=_QUIET,
    )(serve.ingress()(front))
    return api.bind(settings, dict(clients), adapter.bind(settings), sampler.bind(settings))
