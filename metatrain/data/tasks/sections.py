"""Sections of the task sources, read without torch."""

from typing import Literal, Self

from pydantic import Field, model_validator

from metatrain.base.section import Location, Section
from metatrain.data.degradations.degradation import Subsampling


class ClassesConfig(Section):
    """Classes of the packed data set at `data.path`."""

    name: Literal["classes"] = "classes"


Split = Literal["train", "val", "test"]


class PooledConfig(Section):
    """The splits whose images are taken for a pool."""

    splits: tuple[Split, ...] = Field(
        default=("train",),
        min_length=1,
        max_length=3,
        description="Splits whose tasks are made of pooled images; others keep their classes.",
    )


class ClustersConfig(PooledConfig):
    """Clusters of the images of the packed data set at `data.path`, whatever their own tasks."""

    name: Literal["clusters"] = "clusters"
    file: Location = Field(description="The grouping of the images, by `metatrain group`.")


class Augmentation(Section):
    """Extents of random changes, each drawn evenly; 0 leaves images as they are."""

    shift: float = Field(
        default=0.1, ge=0, le=0.5, description="Greatest shift, as a share of the side."
    )
    scale: float = Field(
        default=0.2, ge=0, lt=0.9, description="Greatest change of size, as a share of it."
    )
    turn: float = Field(default=10.0, ge=0, le=180, description="Greatest turn in degrees.")
    flip: bool = Field(default=True, description="Whether half of all views are mirrored.")
    colour: float = Field(
        default=0.2, ge=0, le=1, description="Greatest change of brightness, contrast and colour."
    )


class AugmentationsConfig(PooledConfig):
    """Views of single images of the packed data set at `data.path`, whatever their tasks."""

    name: Literal["augmentations"] = "augmentations"
    augmentation: Augmentation = Field(default=Augmentation())


KernelKind = Literal["isotropic", "anisotropic", "bicubic", "motion", "measured"]


class DegradationsConfig(Section):
    """Photographs, each degraded at random; the support is (son, parent), the query (low, high).

    The high image is a photograph. The low one is its degradation. A parent is a part of the low
    image, and its son is the same degradation of the parent.
    """

    name: Literal["degradations"] = "degradations"
    scale: Literal[2, 3, 4] = Field(default=2, description="High resolution divided by low.")
    kernels: tuple[KernelKind, ...] = Field(
        default=("isotropic",),
        min_length=1,
        max_length=64,
        description="Kinds of blur, of which each task has one; bicubic: no blur, subsampled so.",
    )
    sigma: tuple[float, float] = Field(
        default=(0.2, 2.0), description="Least and greatest sigma of Gaussian kernels, in pixels."
    )
    kernel_size: int = Field(
        default=15, ge=3, le=63, description="Side of the kernels in pixels, an odd number."
    )
    measured: Location | None = Field(
        default=None, description="A .npy or .mat file of measured kernels, or a folder of such."
    )
    subsampling: tuple[Subsampling, ...] = Field(
        default=("direct",),
        min_length=1,
        max_length=64,
        description="Ways to subsample after the blur, of which each task has one.",
    )
    noise: float = Field(
        default=0.0, ge=0, le=100, description="Greatest sigma of Gaussian noise, of 255 levels."
    )
    jpeg: int | None = Field(
        default=None, ge=5, le=100, description="Lowest quality of JPEG, up to 100; null: none."
    )

    @model_validator(mode="after")
    def _kernels_can_be_made(self) -> Self:
        if not 0.05 <= self.sigma[0] <= self.sigma[1] <= 30:
            raise ValueError(f"sigma is {self.sigma}; give two numbers from 0.05 to 30, in order.")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size is {self.kernel_size}; give an odd number.")
        if ("measured" in self.kernels) != (self.measured is not None):
            raise ValueError("measured names files exactly where kernels has 'measured'.")
        return self


class DomainsConfig(Section):
    """Domains of unlabelled real images, and simulated images that belong to none."""

    name: Literal["domains"] = "domains"
    simulated: str = Field(
        default="simulated",
        min_length=1,
        max_length=255,
        description="The packed task of simulated images, or a folder of several such tasks.",
    )
    variants: int = Field(
        default=4,
        ge=1,
        le=256,
        description="Simulated images beside each real one, of which each update takes one.",
    )


class PreferencesConfig(Section):
    """Raters with a hidden taste, who choose between drawings that `metatrain drawings` packed."""

    name: Literal["preferences"] = "preferences"
    raters: int = Field(
        default=1000, ge=1, le=10**6, description="Raters of a split, who are no other split's."
    )
    named: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="Share of raters whose taste has a name: ink, symmetry or a colour.",
    )
