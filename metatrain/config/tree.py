"""The whole configuration, and the constraints between its sections."""

from typing import Any, Self

from pydantic import Field, model_validator

from metatrain.base.section import Section, section_of
from metatrain.config.sections import (
    AdaptConfig,
    CheckpointConfig,
    ClusterConfig,
    MetaConfig,
    RunConfig,
    ValidationConfig,
)
from metatrain.data.conditions import CONDITIONS
from metatrain.data.config import DataConfig
from metatrain.data.tasks import TASK_SOURCES
from metatrain.generators import CODECS, GENERATORS, NETWORKS, OBJECTIVES
from metatrain.generators.codecs.sections import IdentityConfig
from metatrain.generators.conditions.config import plain_conditions
from metatrain.generators.conditions.registry import ENCODERS
from metatrain.generators.networks.sections import UNetConfig
from metatrain.generators.objectives.sections import FlowConfig
from metatrain.learning.config import AuxiliaryConfig
from metatrain.learning.inner.config import InnerConfig
from metatrain.learning.inner.registry import SCOPES
from metatrain.learning.learners import LEARNERS
from metatrain.learning.learners.sections import ReptileConfig

# Sections whose `name` picks a component, outer before inner, and their registries; a star stands
# for any key.
COMPONENTS = {
    "data.tasks": TASK_SOURCES,
    "data.conditions.*": CONDITIONS,
    "generator": GENERATORS,
    "generator.of": NETWORKS,
    "generator.conditions.*": ENCODERS,
    "generator.of.conditions.*": ENCODERS,
    "objective": OBJECTIVES,
    "codec": CODECS,
    "learner": LEARNERS,
    "inner.scope": SCOPES,
}


class Config(Section):
    """All settings of a run."""

    seed: int = Field(default=0, ge=0, lt=2**63, description="Seeds weights, episodes and noise.")
    run: RunConfig = RunConfig()
    data: DataConfig = DataConfig()
    generator: section_of(GENERATORS.sections) = UNetConfig()  # pyright: ignore[reportInvalidTypeForm]
    objective: section_of(OBJECTIVES.sections) = FlowConfig()  # pyright: ignore[reportInvalidTypeForm]
    codec: section_of(CODECS.sections) = IdentityConfig()  # pyright: ignore[reportInvalidTypeForm]
    learner: section_of(LEARNERS.sections) = ReptileConfig()  # pyright: ignore[reportInvalidTypeForm]
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
        """Fill in the scope that defines a learner or generator."""
        scope = brought_scope(values)
        inner = values.get("inner", {}) if scope else None
        if isinstance(inner, dict) and "scope" not in inner:
            return values | {"inner": inner | {"scope": {"name": scope}}}
        return values

    @model_validator(mode="before")
    @classmethod
    def _conditions_are_read(cls, values: Any) -> Any:
        """Let episodes bring the conditions that the generator encodes."""
        kinds = _encoded_kinds(values)
        data = values.get("data", {}) if kinds else None
        read = data.get("conditions", {}) if isinstance(data, dict) else None
        if not isinstance(data, dict) or not isinstance(read, dict):
            return values
        brought = {name: _of_kind(kind, read.get(name, {})) for name, kind in kinds.items()}
        return values | {"data": data | {"conditions": read | brought}}

    @model_validator(mode="after")
    def _conditions_suit_their_encoders(self) -> Self:
        read = {name: section.name for name, section in self.data.conditions.items()}
        for name, kind in _encoded_kinds({"generator": self.generator.model_dump()}).items():
            if read.get(name) != kind:
                raise ValueError(
                    f"the generator reads the condition {name} of the kind {kind}, and "
                    f"data.conditions.{name} is {read.get(name, 'missing')}; give both one kind."
                )
        return self

    @model_validator(mode="after")
    def _scope_suits_the_learner(self) -> Self:
        scope = self.learner.scope
        if scope not in (None, self.inner.scope.name):
            raise ValueError(
                f"learner {self.learner.name} moves the {scope} in its inner loop, and "
                f"inner.scope.name is {self.inner.scope.name}; leave inner.scope out."
            )
        return self

    @model_validator(mode="after")
    def _tasks_can_be_stacked(self) -> Self:
        if self.meta.tasks_at_once != 1 and not self.learner.stackable:
            raise ValueError(
                f"learner {self.learner.name} needs tasks one by one, and meta.tasks_at_once is "
                f"{self.meta.tasks_at_once}; leave meta.tasks_at_once at 1."
            )
        return self

    @model_validator(mode="after")
    def _scope_suits_the_generator(self) -> Self:
        scope = self.generator.scope
        if scope not in (None, self.inner.scope.name):
            raise ValueError(
                f"generator {self.generator.name} adapts by its {scope} alone, and "
                f"inner.scope.name is {self.inner.scope.name}; leave inner.scope out, or choose "
                f"a learner without a scope of its own."
            )
        return self

    @model_validator(mode="after")
    def _some_objectives_are_of_pixels(self) -> Self:
        of_pixels = {"autoencode": "learns a codec of pixels", "refine": "refines pixels"}
        clause = of_pixels.get(self.objective.name)
        if clause and self.codec.name != "identity":
            raise ValueError(
                f"objective.name={self.objective.name} {clause}, and codec.name is "
                f"{self.codec.name}; leave codec out."
            )
        return self

    @model_validator(mode="after")
    def _choices_move_an_adapter(self) -> Self:
        if self.objective.name != "preference":
            return self
        if self.inner.scope.name != "lora":
            raise ValueError(
                f"objective.name=preference compares with the model without its low-rank terms, "
                f"and inner.scope.name is {self.inner.scope.name}; set inner.scope.name=lora."
            )
        if self.data.tasks.name != "preferences":
            raise ValueError(
                f"objective.name=preference learns from choices, and data.tasks.name is "
                f"{self.data.tasks.name}; set data.tasks.name=preferences."
            )
        return self

    @model_validator(mode="after")
    def _lessons_are_apart(self) -> Self:
        kind = self.learner
        if self.objective.name == "distill" and (kind.mixes or kind.remembers):
            raise ValueError(
                f"objective distill teaches by the query alone, and learner {self.learner.name} "
                f"learns from support and query alike; use learner.name=fomaml or maml."
            )
        if self.objective.name == "distill" and (self.auxiliary.contrast or self.auxiliary.masked):
            raise ValueError(
                "objective distill has trajectories for a query, and auxiliary.contrast and "
                "auxiliary.masked need images; set both to 0."
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
                f"cluster.inner_loop cannot be sharded, because {obstacle}; use "
                f"cluster.inner_loop=gathered."
            )
        return self

    @model_validator(mode="after")
    def _differences_can_be_seen(self) -> Self:
        rounded = self.inner.precision == "bf16" and self.meta.hvp == "difference"
        if rounded and self.learner.products:
            raise ValueError(
                "meta.hvp=difference needs changes smaller than inner.precision=bf16 resolves; use "
                "inner.precision=fp32, or another meta.hvp."
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
        """Return why the inner loop cannot work on shards, as a clause; None if it can."""
        kind = self.learner
        if not kind.shardable:
            return f"learner {self.learner.name} learns its inner rates from whole layers"
        if self.objective.differentiates:
            return f"a derivative inside objective {self.objective.name} needs whole weights"
        if self.objective.replays:
            return f"the replay buffer of objective {self.objective.name} is made by whole weights"
        if self.objective.name == "preference":
            return "objective preference computes with and without adapters, from whole weights"
        if kind.products and self.meta.gradient == "unrolled":
            return "meta.gradient=unrolled keeps graphs of whole weights"
        if kind.products and self.meta.hvp != "difference":
            return (
                f"learner {self.learner.name} needs Hessian-vector products, which only "
                f"meta.hvp=difference computes on shards"
            )
        if self.meta.tasks_at_once != 1:
            return f"meta.tasks_at_once is {self.meta.tasks_at_once}"
        if self.auxiliary.contrast or self.auxiliary.masked:
            return "auxiliary losses need whole weights"
        if self.recomputes:
            return "generator.recompute needs whole weights"
        return "inner.compile needs whole weights" if self.inner.compile else None

    @property
    def recomputes(self) -> bool:
        """Whether the generator computes its activations again for a gradient."""
        return getattr(self.generator, "recompute", False)

    @model_validator(mode="after")
    def _recomputing_fits(self) -> Self:
        if not self.recomputes:
            return self
        kind, obstacle = self.learner, None
        if kind.products:
            obstacle = f"learner {self.learner.name} differentiates twice"
        elif self.meta.tasks_at_once != 1:
            obstacle = f"meta.tasks_at_once is {self.meta.tasks_at_once}"
        elif self.inner.compile:
            obstacle = "inner.compile is true"
        if obstacle:
            raise ValueError(
                f"generator.recompute serves learners of first order, task by task, and {obstacle};"
                f" use learner.name=fomaml or reptile, or leave generator.recompute out."
            )
        return self

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
        # Workers that share shards may share tasks too; how many do is known once they run.
        loop = self.cluster.inner_loop
        sharing = loop == "sharded" or (loop == "auto" and not self.obstacle_to_shards())
        sharing = sharing and self.cluster.zero_stage == 3
        if self.cluster.workers > self.meta.batch and not sharing:
            raise ValueError(
                f"meta.batch is {self.meta.batch} for {self.cluster.workers} cluster.workers, so "
                f"some would be idle; raise meta.batch."
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


def brought_scope(values: Any) -> str | None:
    """Return the scope that defines the learner or generator in unvalidated `values`."""
    for place, registry in (("learner", LEARNERS), ("generator", GENERATORS)):
        part = values.get(place) if isinstance(values, dict) else None
        section = registry.sections.get(str(part.get("name"))) if isinstance(part, dict) else None
        if section and section.scope:
            return section.scope
    return None


def _encoded_kinds(values: Any) -> dict[str, str]:
    """Return by name the kinds of conditions that the generator in unvalidated `values` encodes."""
    part = values.get("generator") if isinstance(values, dict) else None
    if isinstance(part, dict) and isinstance(part.get("of"), dict):
        part = part["of"]
    try:
        conditions = plain_conditions(part.get("conditions", {})) if isinstance(part, dict) else {}
    except ValueError:  # the key itself is refused
        conditions = {}
    if not isinstance(conditions, dict):
        return {}
    chosen = {
        n: ENCODERS.sections.get(str(c.get("name")))
        for n, c in conditions.items()
        if isinstance(c, dict)
    }
    kinds = {name: encoder.kind for name, encoder in chosen.items() if encoder}
    captions = part.get("captions") if isinstance(part, dict) else None
    return kinds | ({captions: "text"} if isinstance(captions, str) else {})


def _of_kind(kind: str, section: Any) -> Any:
    return {"name": kind, **section} if isinstance(section, dict) else section
