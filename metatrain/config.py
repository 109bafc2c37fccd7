"""The configuration: one typed, frozen tree, read from YAML with dotted overrides."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from metatrain.auxiliaries import AuxiliaryConfig
from metatrain.episodes import TooFew
from metatrain.errors import UserError, did_you_mean
from metatrain.files import read_file
from metatrain.generators import GENERATORS, NETWORKS
from metatrain.generators.unet import UNetConfig
from metatrain.inner.loop import InnerConfig
from metatrain.inner.scopes import SCOPES
from metatrain.learners import LEARNERS, Reptile
from metatrain.section import Section, section_of


def _without_password(url: str) -> str:
    if urlsplit(url).password:
        raise ValueError(
            "a URL in the configuration must not hold a password, for the configuration is printed "
            "and stored with every model; give credentials by the environment."
        )
    return url


Location = Annotated[str, AfterValidator(_without_password)]


class RunConfig(Section):
    """Where a run lives: everything it writes lies under `dir`/`name`."""

    name: str = Field(
        default="default",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Stable name of the run; training with the same name again resumes it.",
    )
    dir: Location = Field(
        default="runs", description="Folder of all runs: a path or any fsspec URL."
    )

    @property
    def url(self) -> str:
        """Where this run lives."""
        return f"{self.dir.rstrip('/')}/{self.name}"


class DataConfig(Section):
    """Which images, and how they become episodes."""

    path: Location = Field(
        default="data", description="A packed data set: a path or any fsspec URL."
    )
    image_size: int = Field(default=28, ge=8, le=512, description="Height and width in pixels.")
    channels: Literal[1, 3] = Field(default=1, description="1 for grey, 3 for colour.")
    shots: int = Field(default=5, ge=1, description="Support images of an episode (K).")
    queries: int = Field(default=5, ge=1, description="Query images of an episode.")
    too_few: TooFew = Field(
        default="refuse",
        description="What becomes of tasks with fewer than shots + queries images.",
    )
    prefetch_bytes: int = Field(
        default=64_000_000, ge=0, description="Memory of a worker for episodes it reads ahead."
    )
    cache_dir: str | None = Field(
        default=None, description="Folder on each node that keeps what was read; null is none."
    )
    cache_bytes: int = Field(
        default=10_000_000_000, ge=1, description="The most bytes that cache_dir may hold."
    )


class MetaConfig(Section):
    """The outer loop of meta-training."""

    steps: int = Field(default=1000, ge=1, description="Outer steps.")
    batch: int = Field(default=2, ge=1, description="Episodes of an outer step (the meta-batch).")
    optimizer: Literal["sgd", "adam"] = Field(default="adam", description="Outer optimiser.")
    lr: float = Field(default=1e-3, gt=0, description="Outer learning rate.")
    warmup: int = Field(
        default=50, ge=0, description="Outer steps over which the rate rises from 0."
    )
    decay: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Final fraction of training over which the rate falls linearly to 0.",
    )
    clip: float = Field(
        default=0.0, ge=0, description="Norm to clip the outer gradient to; 0 is never."
    )
    ema: float = Field(default=0.999, ge=0, lt=1, description="Decay of the average of theta.")
    post_hoc: bool = Field(
        default=False,
        description="Keep what metatrain combine post-hoc makes averages of any length from.",
    )
    gradient: Literal["adjoint", "unrolled", "auto"] = Field(
        default="adjoint",
        description="How second-order learners go back through inner steps; auto measures.",
    )
    tasks_at_once: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default=1,
        description="Episodes in one inner loop: fast for small scopes, memory in proportion.",
    )
    hvp: Literal["double_backward", "compiled", "difference"] = Field(
        default="double_backward",
        description="How Hessian-vector products are made; difference is not exact.",
    )


class AdaptConfig(Section):
    """Adapting to a new task after meta-training; with the inner optimiser and scope."""

    steps: int = Field(default=40, ge=1, description="Inner steps; more than in training pay off.")
    lr: float = Field(
        default=1e-3, gt=0, description="Inner learning rate, where none was learned."
    )


class ClusterConfig(Section):
    """Ray workers and DeepSpeed."""

    workers: int = Field(
        default=2, ge=1, description="Training workers; each takes its own episodes."
    )
    min_workers: int | None = Field(
        default=None, ge=1, description="Go on with so few, and grow again; null is workers."
    )
    cpus_per_worker: float = Field(
        default=1, gt=0, description="CPUs that a worker reserves and uses."
    )
    gpus_per_worker: Literal[0, 1] = Field(default=0, description="GPUs that a worker reserves.")
    zero_stage: Literal[0, 1, 2, 3] = Field(
        default=1,
        description="What ZeRO shards: 1 optimiser state, 2 also gradients, 3 all, 0 nothing.",
    )
    shards_per_group: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Workers that share one copy of what is sharded; null is those of a node.",
    )
    inner_loop: Literal["auto", "gathered", "sharded"] = Field(
        default="auto",
        description="Stage 3: gathered takes a whole theta on every worker, sharded none at all.",
    )
    offload: bool = Field(
        default=False, description="Keep the optimiser's state in the CPU's memory; stages 1 to 3."
    )
    max_failures: int = Field(
        default=3, ge=0, description="Lost workers to recover from before giving up."
    )
    timeout: float = Field(
        default=600, gt=0, description="Seconds of silence after which a worker counts as lost."
    )


class CheckpointConfig(Section):
    """What is kept of a run while it goes on."""

    every: int = Field(default=500, ge=1, description="Outer steps between checkpoints.")
    keep: int = Field(default=2, ge=1, description="Newest checkpoints that are kept.")
    best: bool = Field(
        default=True, description="Keep also that of the lowest training loss since the one before."
    )
    max_failures: int = Field(
        default=3, ge=0, description="Checkpoints in a row that may fail before the run gives up."
    )
    samples: bool = Field(default=True, description="Draw a sample grid with every checkpoint.")


class ValidationConfig(Section):
    """Scores on unseen tasks with every checkpoint; a sweep needs them, and turns them on."""

    tasks: int = Field(
        default=0, ge=0, description="Tasks of the split val to adapt to, 2 or more; 0 is never."
    )
    images: int = Field(
        default=5, ge=2, description="Images drawn of each, and real ones to compare with."
    )
    points: int = Field(
        default=8, ge=1, description="How many numbers of inner steps up to adapt.steps to score."
    )
    network: Location | None = Field(
        default=None, description="File of the metric network; null is one in the run's folder."
    )

    @model_validator(mode="after")
    def _tasks_are_compared(self) -> Self:
        if self.tasks == 1:
            raise ValueError("tasks is 1, and scores compare tasks; take 2 or more, or 0.")
        return self


# The sections whose `name` picks a component, outer before inner, and what there is to pick from.
COMPONENTS = {
    "generator": GENERATORS,
    "generator.of": NETWORKS,
    "learner": LEARNERS,
    "inner.scope": SCOPES,
}


class Config(Section):
    """Everything that a run depends on."""

    seed: int = Field(default=0, ge=0, lt=2**63, description="Seeds weights, episodes and noise.")
    run: RunConfig = RunConfig()
    data: DataConfig = DataConfig()
    generator: section_of(GENERATORS) = UNetConfig()  # pyright: ignore[reportInvalidTypeForm]
    learner: section_of(LEARNERS) = Reptile.Config()  # pyright: ignore[reportInvalidTypeForm]
    inner: InnerConfig = InnerConfig()
    meta: MetaConfig = MetaConfig()
    auxiliary: AuxiliaryConfig = AuxiliaryConfig()
    adapt: AdaptConfig = AdaptConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    validation: ValidationConfig = ValidationConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="before")
    @classmethod
    def _scope_is_brought(cls, values: Any) -> Any:
        """A learner or generator that is defined by a scope brings it; naming it is enough."""
        scope = _scope_of(values)
        inner = values.get("inner", {}) if scope else None
        if isinstance(inner, dict) and "scope" not in inner:
            return values | {"inner": inner | {"scope": {"name": scope}}}
        return values

    @model_validator(mode="after")
    def _scope_suits_the_learner(self) -> Self:
        wanted = LEARNERS[self.learner.name].scope
        if wanted not in (None, self.inner.scope.name):
            raise ValueError(
                f"learner {self.learner.name} moves the {wanted} in its inner loop, and "
                f"inner.scope.name is {self.inner.scope.name}; leave inner.scope out."
            )
        return self

    @model_validator(mode="after")
    def _tasks_can_be_stacked(self) -> Self:
        if self.meta.tasks_at_once != 1 and not LEARNERS[self.learner.name].stackable:
            raise ValueError(
                f"learner {self.learner.name} takes tasks apart, and meta.tasks_at_once is "
                f"{self.meta.tasks_at_once}; leave meta.tasks_at_once at 1."
            )
        return self

    @model_validator(mode="after")
    def _scope_suits_the_generator(self) -> Self:
        wanted = GENERATORS[self.generator.name].scope
        if wanted not in (None, self.inner.scope.name):
            raise ValueError(
                f"generator {self.generator.name} adapts by its {wanted} alone, and "
                f"inner.scope.name is {self.inner.scope.name}; leave inner.scope out, or choose "
                f"a learner without a scope of its own."
            )
        return self

    @model_validator(mode="after")
    def _inner_loop_can_be_sharded(self) -> Self:
        if self.cluster.inner_loop != "sharded":
            return self
        if self.cluster.zero_stage < 3:
            raise ValueError(
                f"cluster.inner_loop=sharded needs cluster.zero_stage=3, and it is "
                f"{self.cluster.zero_stage}; leave cluster.inner_loop out."
            )
        obstacle = self.obstacle_to_shards()
        if obstacle:
            raise ValueError(
                f"cluster.inner_loop cannot be sharded, for {obstacle}; use "
                f"cluster.inner_loop=gathered."
            )
        return self

    @model_validator(mode="after")
    def _differences_can_be_seen(self) -> Self:
        rounded = self.inner.precision == "bf16" and self.meta.hvp == "difference"
        if rounded and LEARNERS[self.learner.name].products:
            raise ValueError(
                "meta.hvp=difference looks at changes smaller than inner.precision=bf16 can tell; "
                "use inner.precision=fp32, or another meta.hvp."
            )
        return self

    @model_validator(mode="after")
    def _groups_come_out_even(self) -> Self:
        shards = self.cluster.shards_per_group
        if shards and self.cluster.workers % shards:
            raise ValueError(
                f"cluster.shards_per_group is {shards}, which does not divide the "
                f"{self.cluster.workers} cluster.workers; choose a divisor."
            )
        return self

    @model_validator(mode="after")
    def _offload_has_shards(self) -> Self:
        if self.cluster.offload and not self.cluster.zero_stage:
            raise ValueError(
                "cluster.offload needs cluster.zero_stage of 1 or more, and it is 0; raise it."
            )
        return self

    def obstacle_to_shards(self) -> str | None:
        """Why the inner loop cannot work on shards, as part of a sentence; None where it can."""
        kind = LEARNERS[self.learner.name]
        if not kind.shardable:
            return f"learner {self.learner.name} learns its inner rates from whole layers"
        if kind.products and self.meta.gradient == "unrolled":
            return "meta.gradient=unrolled keeps graphs of whole weights"
        if kind.products and self.meta.hvp != "difference":
            return (
                f"learner {self.learner.name} needs Hessian-vector products, which on shards "
                f"meta.hvp=difference alone can make"
            )
        if self.meta.tasks_at_once != 1:
            return f"meta.tasks_at_once is {self.meta.tasks_at_once}"
        if self.auxiliary.contrast or self.auxiliary.masked:
            return "auxiliary losses are taken at whole weights"
        return "inner.compile wants whole weights" if self.inner.compile else None

    @model_validator(mode="after")
    def _contrast_has_tasks(self) -> Self:
        if self.auxiliary.contrast and self.meta.batch == 1:
            raise ValueError(
                "auxiliary.contrast compares the tasks of a meta-batch, and meta.batch is 1; raise "
                "meta.batch."
            )
        return self

    @model_validator(mode="after")
    def _every_worker_has_an_episode(self) -> Self:
        # Workers that share shards may share tasks too; how many do is known when they are there.
        way = self.cluster.inner_loop
        sharing = way == "sharded" or (way == "auto" and not self.obstacle_to_shards())
        sharing = sharing and self.cluster.zero_stage == 3
        if self.cluster.workers > self.meta.batch and not sharing:
            raise ValueError(
                f"meta.batch is {self.meta.batch} for {self.cluster.workers} cluster.workers, and "
                f"some would have nothing to do; raise meta.batch."
            )
        return self

    @model_validator(mode="after")
    def _fewer_workers_are_fewer(self) -> Self:
        if (self.cluster.min_workers or 1) > self.cluster.workers:
            raise ValueError(
                f"cluster.min_workers is {self.cluster.min_workers} and cluster.workers "
                f"{self.cluster.workers}; lower cluster.min_workers."
            )
        return self


def _scope_of(values: Any) -> str | None:
    """The scope that what is named in `values`, not yet validated, is defined by."""
    for section, registry in (("learner", LEARNERS), ("generator", GENERATORS)):
        part = values.get(section) if isinstance(values, dict) else None
        kind = registry.get(str(part.get("name"))) if isinstance(part, dict) else None
        if kind and kind.scope:
            return kind.scope
    return None


def load_config(path: str | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file (a path or any fsspec URL), then apply overrides such as `inner.lr=0.01`.

    Raises:
        UserError: naming the key, its value and what is allowed, or the file that cannot be read.
    """
    return parse_config(load_values(path, overrides))


def load_values(path: str | None = None, overrides: Sequence[str] = ()) -> Any:
    """The plain values of a YAML file with overrides, as they were given.

    Raises:
        UserError: when they cannot be read.
    """
    malformed = [override for override in overrides if "=" not in override]
    if malformed:
        raise UserError(
            f"'{malformed[0]}' is not an override; write key=value, as in inner.lr=0.01."
        )
    try:
        tree = OmegaConf.create(read_file(path).decode() if path else {})
        tree = OmegaConf.merge(tree, OmegaConf.from_dotlist(list(overrides)))
        return OmegaConf.to_container(tree, resolve=True)
    except (OmegaConfBaseException, yaml.YAMLError, ValueError, TypeError) as error:
        first_line = str(error).splitlines()[0]
        raise UserError(
            f"{path or 'the overrides'} cannot be read as YAML keys and values: {first_line}."
        ) from error


def parse_config(values: Any) -> Config:
    """A `Config` from plain values, such as those a checkpoint carries.

    Raises:
        UserError: one line for every key that is unknown or has a value that is not allowed.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        lines = [_sentence(detail) for detail in error.errors()]
        raise UserError("\n  ".join(["the configuration cannot be used:", *lines])) from error


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """`config` with other values at dotted keys.

    Raises:
        UserError: as `parse_config`.
    """
    tree = config.model_dump(mode="json")
    for key, value in values.items():
        *path, leaf = key.split(".")
        section = tree
        for name in path:
            section = section[name]
        section[leaf] = value
    return parse_config(tree)


def differences(a: Config, b: Config) -> dict[str, tuple[Any, Any]]:
    """By dotted key, the value in `a` and in `b` where they differ; None where there is no key."""
    values_a, values_b = dict(_leaves(a)), dict(_leaves(b))
    pairs = {key: (values_a.get(key), values_b.get(key)) for key in values_a | values_b}
    return {key: (before, now) for key, (before, now) in pairs.items() if before != now}


def to_yaml(config: Section) -> str:
    """The configuration as YAML, every key with what it means as a comment."""
    return "\n".join(_yaml_lines(config, indent="")) + "\n"


def _yaml_lines(section: Section, indent: str) -> Iterator[str]:
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if isinstance(value, Section):
            yield f"{indent}{key}:"
            yield from _yaml_lines(value, indent + "  ")
        else:
            written = f"{indent}{key}: {_yaml(value)}"
            yield f"{written:<32}  # {field.description}" if field.description else written


def _yaml(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    # Strings always in quotes: OmegaConf takes more of them for numbers than PyYAML does.
    quotes = '"' if isinstance(value, str) else None
    written = yaml.safe_dump(plain, default_flow_style=True, default_style=quotes, width=math.inf)
    return written.removesuffix("...\n").strip()


def _sentence(detail: ErrorDetails) -> str:
    loc = [str(part) for part in detail["loc"]]
    for section in COMPONENTS:
        depth = section.count(".") + 1
        if ".".join(loc[:depth]) == section:
            del loc[depth : depth + 1]  # pydantic puts the component's name before its keys
    key = ".".join(loc) or "the top level"
    if detail["type"] == "extra_forbidden":
        return f"there is no key '{key}'{_nearest(key)}"
    if detail["type"] == "union_tag_invalid":
        name = json.dumps(detail["input"].get("name"), default=str)
        return f"{key}.name is {name}; allowed is {', '.join(COMPONENTS[key])}."
    if detail["type"] == "union_tag_not_found":
        value = json.dumps(detail["input"], default=str)
        return f"{key} is {value}; write {key}.name={value}."
    if detail["type"] == "value_error":  # one of our own, a sentence about several keys
        of_section = loc and isinstance(detail["input"], dict)
        return (f"{key}." if of_section else "") + detail["msg"].removeprefix("Value error, ")
    allowed = detail["msg"].replace("Input should be", "allowed is")
    return f"{key} is {json.dumps(detail['input'], default=str)}; {allowed}."


def _nearest(key: str) -> str:
    """A hint at the key that was probably meant, beside the wrong one or anywhere else."""
    leaves = [key for key, _ in _leaves(Config())]
    for section, registry in COMPONENTS.items():
        leaves += [
            k for part in registry.values() for k, _ in _leaves(part.Config(), f"{section}.")
        ]
    known = list(dict.fromkeys([key.partition(".")[0] for key in leaves] + leaves))
    parent, _, word = key.rpartition(".")
    siblings = [key.rpartition(".")[2] for key in known if key.rpartition(".")[0] == parent]
    hint = did_you_mean(word, siblings)
    if hint and parent:
        return hint.replace("'", f"'{parent}.", 1)
    elsewhere = [key for key in known if key.rpartition(".")[2] == word]
    return hint or (f"; did you mean '{elsewhere[0]}'?" if elsewhere else "")


def _leaves(section: Section, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key in type(section).model_fields:
        value = getattr(section, key)
        if isinstance(value, Section):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
