"""Sections of the learners, read without torch."""

from typing import ClassVar, Literal

from pydantic import Field

from metatrain.base.section import Rate, Section


class LearnerConfig(Section):
    """A learner's section, which also tells what a configuration must know of the learner.

    Attributes:
        scope: the only scope that the method is defined for; None allows any.
        products: whether it needs Hessian-vector products.
        shardable: whether it works on shards: it uses trees only value by value, or through the
            inner loop.
        stackable: whether it may take several tasks as one whose loss is their sum.
        remembers: whether it has a memory of tasks.
        mixes: whether it takes support and query as one batch.
    """

    scope: ClassVar[str | None] = None
    products: ClassVar[bool] = False
    shardable: ClassVar[bool] = True
    stackable: ClassVar[bool] = True
    remembers: ClassVar[bool] = False
    mixes: ClassVar[bool] = False


class ReptileConfig(LearnerConfig):
    """No settings beyond the inner loop's."""

    mixes = True

    name: Literal["reptile"] = "reptile"


class JointConfig(LearnerConfig):
    """No settings beyond the inner loop's."""

    mixes = True

    name: Literal["joint"] = "joint"


class MTLConfig(LearnerConfig):
    """The heads' rate."""

    scope = "head"
    stackable = False  # heads belong to tasks
    remembers = True
    mixes = True

    name: Literal["mtl"] = "mtl"
    head_lr: Rate = Field(default=0.1, description="Learning rate of the heads.")


class FOMAMLConfig(LearnerConfig):
    """No settings beyond the inner loop's."""

    name: Literal["fomaml"] = "fomaml"


class MAMLConfig(LearnerConfig):
    """No settings beyond the inner loop's."""

    products = True

    name: Literal["maml"] = "maml"


class ANILConfig(LearnerConfig):
    """No settings beyond the inner loop's."""

    products = True
    scope = "head"

    name: Literal["anil"] = "anil"


class BOILConfig(LearnerConfig):
    """No settings beyond the inner loop's."""

    products = True
    scope = "body"

    name: Literal["boil"] = "boil"


class CAVIAConfig(LearnerConfig):
    """No settings beyond the inner loop's."""

    products = True
    scope = "context"

    name: Literal["cavia"] = "cavia"


class MetaSGDConfig(LearnerConfig):
    """No settings beyond the inner loop's."""

    products = True
    shardable = False  # rates belong to parameters and layers as a whole

    name: Literal["meta-sgd"] = "meta-sgd"


class MAMLPlusPlusConfig(LearnerConfig):
    """The two annealings."""

    products = True
    shardable = False  # rates belong to parameters and layers as a whole

    name: Literal["maml++"] = "maml++"
    multi_step: int = Field(
        default=200,
        ge=0,
        le=10**9,
        description="Outer steps until only the last inner step counts.",
    )
    first_order: int = Field(
        default=100,
        ge=0,
        le=10**9,
        description="First outer steps, in which Hessians are dropped.",
    )


class ALFAConfig(LearnerConfig):
    """No settings beyond the inner loop's."""

    products = True
    stackable = False  # the rates depend on means over one task's weights
    shardable = False  # rates belong to parameters and layers as a whole

    name: Literal["alfa"] = "alfa"


class IMAMLConfig(LearnerConfig):
    """The proximal term and the solver."""

    products = True
    stackable = False  # conjugate gradients take other step lengths for every task

    name: Literal["imaml"] = "imaml"
    proximity: float = Field(
        default=1.0, gt=0, description="Weight lambda of |phi - theta|^2 / 2 in the inner loss."
    )
    iterations: int = Field(
        default=5, ge=1, le=10_000, description="Maximum of conjugate-gradient steps."
    )


class ADMMConfig(LearnerConfig):
    """The penalty and the regulariser."""

    mixes = True
    stackable = False  # duals belong to tasks
    remembers = True

    name: Literal["admm"] = "admm"
    rho: float = Field(default=0.1, gt=0, description="Weight rho of the penalty.")
    decay: float = Field(
        default=0.0, ge=0, description="Weight of |theta|^2 / 2 in each task's loss."
    )
