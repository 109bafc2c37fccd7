"""Serve the application until the process is interrupted."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ray import serve
from ray.serve.handle import DeploymentHandle

import cluster  # noqa: F401  it sets the environment that Ray reads when it is imported
from cluster.run.ray_cluster import ray_connection
from metatrain.base.errors import UserError
from metatrain.base.progress import say
from metatrain.base.text import reason_of
from serving.guard import host_of
from serving.on_ray.application import build
from serving.on_ray.settings import ServiceSettings

# The name of the application in a cluster.
_NAME = "metatrain"


@contextmanager
def deployed(settings: ServiceSettings, *, address: str, port: int) -> Iterator[DeploymentHandle]:
    """Serve from the cluster at RAY_ADDRESS, or from one on this machine, within the context.

    Args:
        settings: what is served.
        address: where each node of the cluster listens.
        port: the port there.

    Yields:
        The handle of the API.

    Raises:
        UserError: when Ray cannot be joined or started, or a deployment does not start.
    """
    # On one machine, replicas share its cores.
    cpus = max(os.cpu_count() or 1, 1 + round(2 * settings.cpus * settings.replicas))
    with ray_connection(cpus=cpus) as started:
        try:
            serve.start(http_options={"host": address, "port": port})
            handle = serve.run(build(settings), name=_NAME, route_prefix="/")
        except RuntimeError as error:
            raise UserError(f"Ray Serve cannot start: {reason_of(error)}.") from error
        try:
            yield handle
        finally:
            if not started:  # or all of it ends with the cluster
                with suppress(TimeoutError):  # it ends once what it computes has ended
                    serve.delete(_NAME)


def run_on_ray(settings: ServiceSettings, *, address: str, port: int) -> None:
    """Serve until the process is interrupted; see `deployed`."""
    with deployed(settings, address=address, port=port):
        url = f"http://{host_of(address)}:{port}"
        say(
            f"Serving at {url}, described at {url}/docs; tokens are in {settings.clients}, and "
            f"adaptations at {settings.store}. Ctrl-C ends it."
        )
        while True:
            time.sleep(3600)
