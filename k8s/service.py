"""Render the manifest of a service: models served over HTTP, by a RayService."""

import argparse
import json
from typing import Any

from pydantic import ValidationError

from k8s.render import (
    INSTANCE,
    budget_patches,
    check_quota,
    job_name,
    kustomized,
    network_patches,
    replacement_patch,
    run_network_patch,
    worker_values,
)
from k8s.request import (
    components_of,
    endpoints_of,
    image_of,
    operator_namespace_of,
    refuse_local,
)
from k8s.size import Size
from metatrain.base.errors import UserError
from metatrain.base.text import printable
from metatrain.config import load_values
from serving.on_ray.settings import ServiceSettings

_GIB = 1024**3
_CLUSTER = "/spec/rayClusterConfig"
_GROUP = f"{_CLUSTER}/workerGroupSpecs/0"
_NAMESPACE, _PORT = "metatrain", 8000
# Where the pods have the Secret `clients`.
_CLIENTS = "/etc/clients/tokens.json"
# What may stand below a service: its store and its GPUs.
_COMPONENTS = ("store", "gpu")
# Of the front, which computes nothing.
_FRONT_CPUS = 1
_CPUS, _MEMORY, _SHM = 2, 8 * _GIB, 2 * _GIB


def render_service(arguments: argparse.Namespace) -> str:
    """Render all objects of a service as YAML.

    Raises:
        UserError: when the options contradict each other or the settings, or kubectl is missing.
    """
    values = load_values(arguments.config, arguments.overrides)
    name = job_name(str(values.pop("name", "metatrain")))
    settings, gpus = _settings(values, name), arguments.gpus or 0
    components = components_of(arguments.overlay) if arguments.overlay else []
    if odd := next((c for c in components if c not in _COMPONENTS), None):
        raise UserError(f"--serve takes no overlay with {odd}; choose dev, gpu or none.")
    if ("gpu" in components) != bool(gpus):
        raise UserError("--gpus N and --overlay gpu require each other; give both or neither.")
    if not arguments.api_server:
        raise UserError("--serve needs --api-server ADDRESS:PORT, which its autoscaler calls.")
    size = Size(cpus=_CPUS * max(1, gpus), memory=_MEMORY * max(1, gpus), shm=_SHM, gpus=gpus)
    _refuse_too_many(settings, arguments.workers, size)
    check_quota(arguments.workers, gpus)
    return kustomized(
        image=image_of(arguments),
        components=[*components, "serve"],
        files={},
        patches=[
            _service_patch(name, settings, arguments.workers, size),
            *budget_patches(name, ("head",)),
            *network_patches(endpoints_of(arguments), operator_namespace_of(arguments)),
            run_network_patch(name),
        ],
    )


def _settings(values: dict[str, Any], name: str) -> ServiceSettings:
    hosts = (f"{name}-serve-svc", f"{name}-serve-svc.{_NAMESPACE}.svc")
    try:
        settings = ServiceSettings.model_validate({"clients": _CLIENTS} | values, strict=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = printable(".".join(map(str, first["loc"])))
        raise UserError(
            f"{f'{key} of the service' if key else 'the service'} cannot be used: "
            f"{first['msg'].removeprefix('Value error, ').lower()}; it needs models and store, "
            f"such as models=[emoji] store=s3://bucket/adaptations."
        ) from error
    refuse_local("store", settings.store)
    return settings.model_copy(update={"hosts": (*hosts, *settings.hosts)})


def _refuse_too_many(settings: ServiceSettings, workers: int, size: Size) -> None:
    """Refuse replicas for which there would never be room.

    Raises:
        UserError: when there are such.
    """
    count = 2 * settings.replicas
    for noun, each, needed, room in (
        ("CPUs", settings.cpus, _FRONT_CPUS + count * settings.cpus, size.cpus),
        ("GPUs", settings.gpus, count * settings.gpus, size.gpus),
    ):
        if needed > workers * room:
            raise UserError(
                f"{settings.replicas} replicas that adapt and as many that draw need "
                f"{needed:g} {noun}, and {workers} --workers have {workers * room}; lower "
                f"replicas, or give more --workers."
            )
        if each > room:
            raise UserError(
                f"a replica of {each:g} {noun} has no room in a pod of {room}; lower "
                f"{noun.lower()}."
            )


def _service_patch(
    name: str, settings: ServiceSettings, workers: int, size: Size
) -> dict[str, Any]:
    values = {
        "/metadata/name": name,
        f"/{INSTANCE}": name,
        "/spec/serveConfigV2": json.dumps(_serve_config(settings), indent=2),
        f"{_CLUSTER}/headGroupSpec/template/{INSTANCE}": name,
        f"{_GROUP}/maxReplicas": workers,
        **worker_values(_GROUP, name, size),
    }
    return replacement_patch({"kind": "RayService"}, values)


def _serve_config(settings: ServiceSettings) -> dict[str, Any]:
    application = {
        "name": "metatrain",
        "route_prefix": "/",
        "import_path": "serving.on_ray.application:build",
        "args": settings.model_dump(mode="json"),
    }
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": _PORT},
        "applications": [application],
    }
