"""Sections of the objectives, read without torch."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from typing_extensions import override

from metatrain.base.section import Section
from metatrain.generators.frozen import FrozenWeights
from metatrain.generators.frozen_folder import FrozenFolder
from metatrain.generators.sampler_sections import (
    FlowSamplerConfig,
    IntervalSamplerConfig,
    LatentSamplerConfig,
)


class ObjectiveConfig(Section):
    """An objective's section, which also tells what a configuration must know of the objective."""

    @property
    def differentiates(self) -> bool:
        """Whether a term has a derivative inside, as a gradient penalty has.

        Its gradient needs whole weights then, and no learner differentiates it once more.
        """
        return False

    @property
    def replays(self) -> int:
        """The images of earlier outer steps that a run keeps for the objective to see again.

        They are part of the run's state, see `metatrain.training.replay`.
        """
        return 0


class FlowNoiseConfig(ObjectiveConfig):
    """The noise and times of flows, and their sampler."""

    shared_noise: bool = Field(
        default=False,
        description="Reuse one noise per image in all inner steps of an episode.",
    )
    stratified_time: bool = Field(
        default=True,
        description="Spread the times of a batch evenly over [0, 1] instead of at random.",
    )
    condition_dropout: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Fraction of images trained without seeing the support.",
    )
    sampler: FlowSamplerConfig = FlowSamplerConfig()


class FlowConfig(FlowNoiseConfig):
    """Training and sampling of a flow."""

    name: Literal["flow"] = "flow"


class MeanVelocityConfig(FlowNoiseConfig):
    """The noise and times of such flows, and their sampler."""

    sampler: IntervalSamplerConfig = (  # pyright: ignore[reportIncompatibleVariableOverride]
        IntervalSamplerConfig()
    )


class MeanFlowConfig(MeanVelocityConfig):
    """Training and sampling of a MeanFlow."""

    name: Literal["meanflow"] = "meanflow"
    intervals: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="Fraction of images whose mean velocity is over an interval; of the others, it "
        "is the velocity.",
    )
    weighting: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Power p of the adaptive weight of an image's error e, 1 / (e + 0.001)^p.",
    )
    sampler: IntervalSamplerConfig = IntervalSamplerConfig(steps=1)

    @property
    @override
    def differentiates(self) -> bool:
        return True


class TeacherFile(FrozenWeights):
    """The model file that is distilled, which nothing reads after training."""

    training_only = True


class DistillConfig(MeanVelocityConfig):
    """The teacher, and what the student learns of it."""

    name: Literal["distill"] = "distill"
    teacher: TeacherFile = Field(description="The model file that is distilled.")
    steps: int = Field(
        default=4, ge=1, le=64, description="Network calls of an image that the student learns."
    )
    path: Literal["teacher", "straight"] = Field(
        default="teacher",
        description="States that the student learns at: those that the teacher passes, or those on "
        "the straight line from noise to image (reflow).",
    )
    pairs: int = Field(
        default=16,
        ge=1,
        le=4096,
        description="Noises, and what the adapted teacher makes of them, in an episode.",
    )
    episodes: int = Field(
        default=256,
        ge=1,
        le=10**9,
        description="Episodes that the teacher draws in, after which they recur.",
    )
    velocity: float = Field(
        default=0.25,
        ge=0,
        lt=1,
        description="Fraction of the pairs that teach the velocity, which adapting follows.",
    )
    condition_dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Fraction of images trained without seeing the support.",
    )

    @model_validator(mode="before")
    @classmethod
    def _samples_as_it_learns(cls, values: Any) -> Any:
        """Fill in the sampler's steps."""
        sampler = values.get("sampler", {}) if isinstance(values, Mapping) else None
        if not isinstance(sampler, Mapping) or "steps" in sampler or "steps" not in values:
            return values
        return {**values, "sampler": {**sampler, "steps": values["steps"]}}


class SchedulerSamplerConfig(Section):
    """Sampling by the scheduler."""

    steps: int = Field(default=20, ge=1, le=1000, description="Steps from noise to example.")
    guidance: float = Field(
        default=1.0, ge=0, description="Classifier-free guidance towards the text; 1 is none."
    )


class ScheduledConfig(ObjectiveConfig, FrozenFolder):
    """Training and sampling as the scheduler in a folder of diffusers says."""

    CONFIGURATION: ClassVar[str] = "scheduler_config.json"

    name: Literal["diffusers"] = "diffusers"
    min_snr: float | None = Field(
        default=None, gt=0, description="Gamma of the min-SNR weighting, usually 5; null is none."
    )
    times: Literal["uniform", "logit_normal"] = Field(
        default="uniform", description="Distribution of the times of training."
    )
    condition_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Fraction of examples trained without the text."
    )
    sampler: SchedulerSamplerConfig = SchedulerSamplerConfig()

    @property
    @override
    def has_weights(self) -> bool:
        return False


class SuperResolutionConfig(ObjectiveConfig):
    """No settings; the scale is that of the task source."""

    name: Literal["super_resolution"] = "super_resolution"


class GameConfig(ObjectiveConfig):
    """Settings of every game."""

    name: str
    d_steps: int = Field(
        default=1,
        ge=1,
        le=100,
        description="Updates of the discriminator before each of the generator, in an inner step.",
    )

    @property
    @abstractmethod
    def penalty_weight(self) -> float:
        """The weight of the gradient penalty."""

    @property
    @override
    def differentiates(self) -> bool:
        return self.penalty_weight > 0


Augmentation = Literal["colour", "translation", "cutout"]
ALL: tuple[Augmentation, ...] = ("colour", "translation", "cutout")


class AdversarialConfig(GameConfig):
    """The game of a generator and a discriminator."""

    name: Literal["adversarial"] = "adversarial"
    loss: Literal["wgan-gp", "hinge", "non-saturating"] = Field(
        default="non-saturating", description="The losses of both players."
    )
    penalty: float | None = Field(
        default=None,
        ge=0,
        description="Weight of the gradient penalty; null: 10 (wgan-gp), 1 (hinge, R1) or 0.",
    )
    augment: tuple[Augmentation, ...] | None = Field(
        default=None,
        description="Augmentations before the discriminator; null: all (non-saturating) or none.",
    )
    restoration: float = Field(
        default=1.0,
        ge=0,
        description="Weight of the restoration error, where the discriminator restores images.",
    )
    sampler: LatentSamplerConfig = LatentSamplerConfig()

    @property
    @override
    def penalty_weight(self) -> float:
        usual = {"wgan-gp": 10.0, "hinge": 1.0, "non-saturating": 0.0}
        return usual[self.loss] if self.penalty is None else self.penalty

    @property
    def augmentations(self) -> tuple[Augmentation, ...]:
        """The augmentations of what the discriminator sees."""
        if self.augment is not None:
            return self.augment
        return ALL if self.loss == "non-saturating" else ()


class AutoencodeConfig(ObjectiveConfig):
    """Weights of the parts of the loss beside the absolute difference, whose weight is 1."""

    name: Literal["autoencode"] = "autoencode"
    perceptual: float = Field(
        default=0.1, ge=0, description="Weight of the distance in the metric network's features."
    )
    features: FrozenWeights | None = Field(
        default=None, description="File of the metric network; null: no perceptual loss."
    )
    kl: float = Field(
        default=1e-4, ge=0, description="Weight of the divergence of latents from a unit Gaussian."
    )


class RefineConfig(GameConfig):
    """The game of a refiner and a discriminator of places."""

    name: Literal["refine"] = "refine"
    weight: float = Field(
        default=1.0, ge=0, description="Weight lambda of the self-regularisation."
    )
    features: Literal["pixels", "edges"] = Field(
        default="pixels",
        description="What refining must keep: the pixels, or their differences to neighbours.",
    )
    penalty: float = Field(
        default=0.0, ge=0, description="Weight of the gradient penalty on real images (R1)."
    )
    replay: int = Field(
        default=512,
        ge=0,
        le=100_000,
        description="Images of the history buffer, refined in earlier outer steps; 0 for none.",
    )

    @property
    @override
    def penalty_weight(self) -> float:
        return self.penalty

    @property
    @override
    def replays(self) -> int:
        return self.replay


# The strength that holds a model to its reference.
BETA = 2000.0


class PreferenceConfig(ObjectiveConfig):
    """Training of an adapter on choices between drawings of a flow."""

    name: Literal["preference"] = "preference"
    beta: float = Field(default=BETA, gt=0, description="Holds to the model without the adapter.")
    sampler: FlowSamplerConfig = FlowSamplerConfig()
