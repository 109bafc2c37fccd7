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
    hosts = [f"{name}-serve-svc", f"{name}-serve-svc.{_NAMESPACE}.svc", *values.pop("hosts", [])]
    try:
        settings = ServiceSettings.model_validate(
            {"clients": _CLIENTS} | values | {"hosts": hosts}, strict=False
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{key} of the service cannot be used: {first['msg'].lower()}; it needs models and "
            f"store, such as models=[emoji] store=s3://bucket/adaptations."
        ) from error
    refuse_local("store", settings.store)
    return settings


def _refuse_too_many(settings: ServiceSettings, workers: int, size: Size) -> None:
    """Refuse replicas for which there would never be room.

    Raises:
        UserError: when there are such.
    """
    count = 2 * settings.replicas
    for noun, needed, room in (
        ("CPUs", _FRONT_CPUS + count * settings.cpus, workers * size.cpus),
        ("GPUs", count * settings.gpus, workers * size.gpus),
    ):
        if needed > room:
            raise UserError(
                f"{settings.replicas} replicas that adapt and as many that draw need "
                f"{needed:g} {noun}, and {workers} --workers have {room}; lower replicas, or give "
                f"more --workers."
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
