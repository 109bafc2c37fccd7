"""The request for a manifest, read from the command line and checked before rendering."""

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import NamedTuple

import yaml

from metatrain.base.errors import UserError, did_you_mean
from metatrain.config import Config, load_config, load_values, override_values, to_yaml
from metatrain.config.layers import nested, united
from metatrain.config.yaml_values import dumped

FOLDER = Path(__file__).parent

# Overlays that run something.
_RUNNING_OVERLAYS = ["dev", "gpu", "spot", "kueue", "volcano", "sweep"]

# The pods' folders of the ConfigMap's files, and of the data cache.
_MOUNTED, _CACHE = "/etc/metatrain", "/var/cache/metatrain"

# Loads a run's configuration with further overrides.
ConfigLoader = Callable[[Sequence[str]], Config]


class Endpoint(NamedTuple):
    """A range of addresses, and a TCP port."""

    cidr: str
    port: int


@dataclass(frozen=True, kw_only=True)
class Request:
    """The content of a manifest.

    Attributes:
        name: the name of the run or the sweep.
        load: loads the configuration of the run, or of the sweep's base, with further overrides.
        files: the files that the pods read, by name.
        components: kustomize components on top of the base.
        pods: the number of worker pods; of a sweep, the most of them.
        gpus: GPUs of a pod.
        gpu_memory: bytes of a GPU; None is an H100's.
        image: the image, by digest.
        api_server: the endpoints of the Kubernetes API; none where nothing autoscales.
        operator_namespace: the namespace of KubeRay's operator; None: KubeRay's own.
    """

    name: str
    load: ConfigLoader
    files: Mapping[str, str]
    components: Sequence[str]
    pods: int
    gpus: int
    gpu_memory: float | None
    image: str
    api_server: Sequence[Endpoint]
    operator_namespace: str | None

    @property
    def config(self) -> Config:
        """The configuration of the run, or of the sweep's base."""
        return self.load(())

    @property
    def autoscales(self) -> bool:
        """Whether the number of worker pods follows the work."""
        return "sweep" in self.components


class _Workload(NamedTuple):
    """The name, the configuration and the files of a run or a sweep, as in `Request`."""

    name: str
    load: ConfigLoader
    files: dict[str, str]


def request_of(arguments: argparse.Namespace) -> Request:
    """Read the request of a command line.

    Raises:
        UserError: when its options contradict each other or the configuration.
    """
    components, gpus = components_of(arguments.overlay), arguments.gpus or 0
    if ("gpu" in components) != bool(gpus):
        raise UserError(
            "--gpus N and --overlay gpu, or an overlay that contains it, require each other; give "
            "both or neither."
        )
    if {"kueue", "sweep"} <= set(components):
        raise UserError("Kueue admits gangs, and a sweep grows and shrinks; omit one overlay.")
    if ("sweep" in components) != bool(arguments.api_server):
        raise UserError(
            "--api-server ADDRESS:PORT and --overlay sweep, whose autoscaler calls the Kubernetes "
            "API, require each other; give both or neither."
        )
    read = _read_sweep if "sweep" in components else _read_run
    workload = read(arguments, components)
    return Request(
        name=workload.name,
        load=workload.load,
        files=workload.files,
        components=components,
        pods=arguments.workers,
        gpus=gpus,
        gpu_memory=arguments.gpu_memory and 1e9 * arguments.gpu_memory,
        image=image_of(arguments),
        api_server=endpoints_of(arguments),
        operator_namespace=operator_namespace_of(arguments),
    )


def image_of(arguments: argparse.Namespace) -> str:
    """Return the only image.

    Raises:
        UserError: when there are several, or it has no digest or two.
    """
    names = arguments.image
    if len(names) > 1 or not re.fullmatch(r"[\w./:-]+@sha256:[0-9a-f]{64}", names[0], re.ASCII):
        raise UserError(
            f"--image {' --image '.join(names)} is not one image with one digest; give it by its "
            f"digest, registry/name@sha256:..., which docker push prints."
        )
    return names[0]


def endpoints_of(arguments: argparse.Namespace) -> list[Endpoint]:
    """Parse endpoints as kubectl prints them, such as 10.0.0.5:6443,10.0.0.6:6443.

    Raises:
        UserError: when one has another form.
    """
    text = arguments.api_server
    return [_endpoint(part) for part in text.split(",")] if text else []


def _endpoint(text: str) -> Endpoint:
    address, _, port = text.rpartition(":")
    try:
        network = ip_network(address.removeprefix("[").removesuffix("]"))
        if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 2**16:
            raise ValueError
    except ValueError:
        raise UserError(
            f"--api-server has {text}, which is not an IP address or a range of them with a port; "
            f"give ADDRESS:PORT, such as 10.0.0.5:6443, or several with commas between them."
        ) from None
    return Endpoint(str(network), int(port))


def operator_namespace_of(arguments: argparse.Namespace) -> str | None:
    """Return the namespace of KubeRay's operator; None where it is KubeRay's own.

    Raises:
        UserError: when it cannot be the name of one.
    """
    name = arguments.operator_namespace
    if name is not None and not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name):
        raise UserError(
            f"--operator-namespace {name} cannot be the name of a namespace; give the one in which "
            f"KubeRay's operator runs, of lower-case letters, digits and hyphens."
        )
    return name


def components_of(overlays: Sequence[str]) -> list[str]:
    """List the overlays' components in order, each once, without the image's.

    Raises:
        UserError: when there is no overlay, or one that runs nothing.
    """
    if not overlays:
        raise UserError(f"--overlay is missing; choose from {', '.join(_RUNNING_OVERLAYS)}.")
    components: list[str] = []
    for overlay in overlays:
        if overlay not in _RUNNING_OVERLAYS:
            hint = did_you_mean(overlay, _RUNNING_OVERLAYS) or "."
            raise UserError(
                f"--overlay {overlay} runs nothing; choose from {', '.join(_RUNNING_OVERLAYS)}"
                f"{hint}"
            )
        file = FOLDER / "overlays" / overlay / "kustomization.yaml"
        names = [Path(path).name for path in yaml.safe_load(file.read_text())["components"]]
        components += [name for name in names if name != "image" and name not in components]
    return components


def _read_run(arguments: argparse.Namespace, components: Sequence[str]) -> _Workload:
    per_pod = arguments.gpus or 1
    sized = [
        f"cluster.workers={arguments.workers * per_pod}",
        f"cluster.gpus_per_worker={int(bool(arguments.gpus))}",
    ]

    def load(further: Sequence[str]) -> Config:
        return load_config(arguments.config, [*arguments.overrides, *sized, *further])

    config = load(())
    refuse_local("run.dir", config.run.dir)
    refuse_local("data.path", config.data.url)
    if not config.data.cache_dir:
        sized.append(f"data.cache_dir={_CACHE}")
    if "spot" in components and not config.cluster.min_workers:
        sized.append(f"cluster.min_workers={per_pod}")
    return _Workload(config.run.name, load, {"run.yaml": to_yaml(load(()))})


def _read_sweep(arguments: argparse.Namespace, _: Sequence[str]) -> _Workload:
    from tuning.config import load_sweep, split_overrides, sweep_values

    def load(further: Sequence[str]) -> Config:
        return load_sweep(arguments.config, [*arguments.overrides, *further]).base

    settings = load_sweep(arguments.config, arguments.overrides).settings
    gpus = load(()).cluster.gpus_per_worker
    refuse_local("dir", settings.dir)
    refuse_local("data.path", load(()).data.url)
    if bool(gpus) != bool(arguments.gpus):
        raise UserError(
            f"cluster.gpus_per_worker is {gpus} in the sweep's base, which contradicts "
            f"{arguments.gpus or 'no'} --gpus; set it under overrides."
        )
    of_sweep, of_base = split_overrides(arguments.overrides)
    overrides = united(nested(settings.overrides), override_values(of_base))
    values = sweep_values(arguments.config, of_sweep)
    values |= {"base": f"{_MOUNTED}/run.yaml", "overrides": overrides}
    base = load_values(settings.base)
    files = {"run.yaml": dumped(base), "sweep.yaml": dumped(values)}
    return _Workload(settings.name, load, files)


def refuse_local(key: str, url: str | None) -> None:
    """Refuse a folder of a pod.

    Raises:
        UserError: when it is one.
    """
    if url and ("://" not in url or url.startswith("file://")):
        raise UserError(
            f"{key} is {url}, a folder that is deleted with its pod; give the URL of an object "
            f"store, such as s3://bucket/folder."
        )
