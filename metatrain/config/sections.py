"""Sections of the configuration that belong to no single component."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from metatrain.base.section import Location, Rate, Section, StableName


class RunConfig(Section):
    """Name and location of a run: it writes everything under `dir`/`name`."""

    name: StableName = Field(
        default="default",
        description="Stable name of the run; training again with the same name resumes it.",
    )
    dir: Location = Field(
        default="runs", description="Parent folder of runs: a path or any fsspec URL."
    )
    init: Location | None = Field(
        default=None,
        description="Model to start from: a file, a run's folder or a name; null: random weights. "
        "Only a run without checkpoints reads it.",
    )

    @property
    def url(self) -> str:
        """The run's folder."""
        return f"{self.dir.rstrip('/')}/{self.name}"


class MetaConfig(Section):
    """The outer loop of meta-training."""

    steps: int = Field(default=1000, ge=1, le=10**9, description="Outer steps.")
    batch: int = Field(
        default=2, ge=1, le=2**20, description="Episodes in an outer step (the meta-batch)."
    )
    optimizer: Literal["sgd", "adam"] = Field(default="adam", description="Outer optimiser.")
    momentum: float = Field(
        default=0.9, ge=0, lt=1, description="beta_1 of adam; 0 suits games with few inner steps."
    )
    lr: Rate = Field(default=1e-3, description="Outer learning rate.")
    warmup: int = Field(
        default=50, ge=0, le=10**9, description="Outer steps of linear warm-up of the rate from 0."
    )
    decay: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Final fraction of training with linear decay of the rate to 0.",
    )
    clip: float = Field(
        default=0.0, ge=0, description="Maximum norm of the outer gradient; 0: no clipping."
    )
    ema: float = Field(
        default=0.999, ge=0, lt=1, description="Decay of the moving average of theta (EMA)."
    )
    post_hoc: bool = Field(
        default=False,
        description="Store the averages that post-hoc EMA combines to any length.",
    )
    gradient: Literal["adjoint", "unrolled", "auto"] = Field(
        default="adjoint",
        description="Backward pass through inner steps (second order); auto measures both.",
    )
    tasks_at_once: Annotated[int, Field(ge=1, le=2**20)] | Literal["auto"] = Field(
        default=1,
        description="Episodes per inner loop; faster for small scopes, memory grows with it.",
    )
    hvp: Literal["double_backward", "compiled", "difference"] = Field(
        default="double_backward",
        description="Method of Hessian-vector products; difference is approximate.",
    )


class AdaptConfig(Section):
    """Adaptation to a new task after meta-training, with the inner optimiser and scope."""

    steps: int = Field(
        default=40, ge=1, le=100_000, description="Inner steps; more than in training usually help."
    )
    lr: Rate = Field(
        default=1e-3, description="Inner learning rate, unless the learner learns rates."
    )


class ClusterConfig(Section):
    """Ray workers and DeepSpeed."""

    workers: int = Field(
        default=2, ge=1, le=2**16, description="Training workers, each with its own episodes."
    )
    min_workers: int | None = Field(
        default=None,
        ge=1,
        le=2**16,
        description="Keep training with at least this many workers (elastic); null: `workers`.",
    )
    cpus_per_worker: float = Field(
        default=1, gt=0, description="CPUs that a worker reserves and uses."
    )
    gpus_per_worker: Literal[0, 1] = Field(default=0, description="GPUs that a worker reserves.")
    zero_stage: Literal[0, 1, 2, 3] = Field(
        default=1,
        description="ZeRO shards: 1 optimiser state, 2 also gradients, 3 everything, 0 nothing.",
    )
    shards_per_group: Annotated[int, Field(ge=1, le=2**16)] | None = Field(
        default=None,
        description="Workers that share one copy of the sharded state; null: those of a node.",
    )
    inner_loop: Literal["auto", "gathered", "sharded"] = Field(
        default="auto",
        description="Stage 3: gathered holds a whole theta on every worker, sharded on none.",
    )
    offload: bool = Field(
        default=False, description="Keep the optimiser state in CPU memory (stages 1 to 3)."
    )
    max_failures: int = Field(
        default=3,
        ge=0,
        le=10**6,
        description="Worker failures to recover from before the run fails.",
    )
    timeout: float = Field(
        default=600,
        gt=0,
        description="Seconds without an answer after which a worker counts as lost.",
    )


class CheckpointConfig(Section):
    """Checkpoints of a run."""

    every: int = Field(default=500, ge=1, le=10**9, description="Outer steps between checkpoints.")
    keep: int = Field(default=2, ge=1, le=10**6, description="Newest checkpoints to keep.")
    best: bool = Field(
        default=True, description="Also keep the checkpoint with the lowest recent training loss."
    )
    max_failures: int = Field(
        default=3,
        ge=0,
        le=10**6,
        description="Consecutive failed checkpoints before the run fails.",
    )
    samples: bool = Field(default=True, description="Log a sample grid with every checkpoint.")


class ValidationConfig(Section):
    """Scores on unseen tasks with every checkpoint; a sweep turns them on."""

    tasks: int = Field(
        default=0,
        ge=0,
        le=10**6,
        description="Tasks of the split val to adapt to, 2 or more; 0: no validation.",
    )
    images: int = Field(
        default=5, ge=2, le=1024, description="Samples per task, and real images to compare with."
    )
    points: int = Field(
        default=8,
        ge=1,
        le=10_000,
        description="Numbers of inner steps to score, up to adapt.steps.",
    )
    network: Location | None = Field(
        default=None, description="File of the metric network; null: one in the run's folder."
    )

    @model_validator(mode="after")
    def _tasks_are_compared(self) -> Self:
        if self.tasks == 1:
            raise ValueError("tasks is 1, and scores compare tasks; take 2 or more, or 0.")
        return self
