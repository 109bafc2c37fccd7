"""What is to run, read and checked before anything is rendered."""

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from metatrain.base.errors import UserError, did_you_mean
from metatrain.config import Config, load_config, load_values, to_yaml

FOLDER = Path(__file__).parent

# Overlays of which each runs something.
_RUNS = ["dev", "gpu", "spot", "kueue", "volcano", "sweep"]

# Where pods have what the ConfigMap holds, and room for what they read of the data.
_MOUNTED, _CACHE = "/etc/metatrain", "/var/cache/metatrain"

# A name, a configuration with further overrides, and files for the pods.
_Work = tuple[str, Callable[[Sequence[str]], Config], dict[str, str]]


@dataclass(frozen=True)
class Request:
    """What a manifest is made of.

    Attributes:
        name: of the run or the sweep.
        load: the run's configuration, or that of the sweep's base, with further overrides.
        files: by name, what the pods read.
        components: of kustomize, on top of the base.
        pods: that train; of a sweep, the most of them.
        gpus: of each pod.
        gpu_memory: of each of them in bytes; None is an H100's.
        image: by digest.
    """

    name: str
    load: Callable[[Sequence[str]], Config]
    files: Mapping[str, str]
    components: Sequence[str]
    pods: int
    gpus: int
    gpu_memory: float | None
    image: str

    @property
    def config(self) -> Config:
        """Of the run, or of the sweep's base."""
        return self.load(())

    @property
    def grows(self) -> bool:
        """Whether pods come and go with the work."""
        return "sweep" in self.components


def request_of(arguments: argparse.Namespace) -> Request:
    """What the command line asks for.

    Raises:
        UserError: when it cannot be had.
    """
    if not re.fullmatch(r"\S+@sha256:[0-9a-f]{64}", arguments.image):
        raise UserError(
            f"--image {arguments.image} may be another image tomorrow; give it by its digest, "
            f"registry/name@sha256:..., which docker push prints."
        )
    components, gpus = _components(arguments.overlay), arguments.gpus or 0
    if ("gpu" in components) != bool(gpus):
        raise UserError("--gpus N and --overlay gpu, or one that contains it, go together.")
    if {"kueue", "sweep"} <= set(components):
        raise UserError("Kueue admits gangs, and a sweep grows and shrinks; leave one overlay out.")
    read = _sweep if "sweep" in components else _run
    name, load, files = read(arguments, components)
    memory = arguments.gpu_memory and 1e9 * arguments.gpu_memory
    sizes = (arguments.workers, gpus, memory)
    return Request(name, load, files, components, *sizes, arguments.image)


def _components(overlays: Sequence[str]) -> list[str]:
    """Theirs in order, each once; the image is that of the command line."""
    found: list[str] = []
    for overlay in overlays:
        if overlay not in _RUNS:
            hint = did_you_mean(overlay, _RUNS) or "."
            raise UserError(f"--overlay {overlay} runs nothing; there are {', '.join(_RUNS)}{hint}")
        file = FOLDER / "overlays" / overlay / "kustomization.yaml"
        names = [Path(path).name for path in yaml.safe_load(file.read_text())["components"]]
        found += [name for name in names if name != "image" and name not in found]
    return found


def _run(arguments: argparse.Namespace, components: Sequence[str]) -> _Work:
    trainers = arguments.gpus or 1
    sized = [
        f"cluster.workers={arguments.workers * trainers}",
        f"cluster.gpus_per_worker={int(bool(arguments.gpus))}",
    ]

    def load(further: Sequence[str]) -> Config:
        return load_config(arguments.config, [*arguments.overrides, *sized, *further])

    given = load(())
    _refuse_local("run.dir", given.run.dir)
    _refuse_local("data.path", given.data.url)
    if not given.data.cache_dir:
        sized.append(f"data.cache_dir={_CACHE}")
    if "spot" in components and not given.cluster.min_workers:
        sized.append(f"cluster.min_workers={trainers}")  # of one pod
    return given.run.name, load, {"run.yaml": to_yaml(load(()))}


def _sweep(arguments: argparse.Namespace, _: Sequence[str]) -> _Work:
    from tuning.config import divided, load_sweep

    def load(further: Sequence[str]) -> Config:
        return load_sweep(arguments.config, [*arguments.overrides, *further]).base

    settings = load_sweep(arguments.config, arguments.overrides).settings
    gpus = load(()).cluster.gpus_per_worker
    _refuse_local("dir", settings.dir)
    _refuse_local("data.path", load(()).data.url)
    if bool(gpus) != bool(arguments.gpus):
        raise UserError(
            f"cluster.gpus_per_worker is {gpus} in the sweep's base, which does not go with "
            f"{arguments.gpus or 'no'} --gpus; set it under overrides."
        )
    own, others = divided(arguments.overrides)
    values = load_values(arguments.config, own)
    pairs = (other.partition("=") for other in others)
    overrides = settings.overrides | {key: yaml.safe_load(value) for key, _, value in pairs}
    values |= {"base": f"{_MOUNTED}/run.yaml", "overrides": overrides}
    base = load_values(settings.base) if settings.base else {}
    files = {"run.yaml": yaml.safe_dump(base), "sweep.yaml": yaml.safe_dump(values)}
    return settings.name, load, files


def _refuse_local(key: str, url: str | None) -> None:
    if url and ("://" not in url or url.startswith("file://")):
        raise UserError(
            f"{key} is {url}, a folder that ends with its pod; give the URL of an object store, "
            f"such as s3://bucket/folder."
        )
