"""The section of the auxiliary losses."""

from pydantic import Field

from metatrain.base.section import Section


class AuxiliaryConfig(Section):
    """Losses at theta beside the learner's; a weight of 0 disables one."""

    contrast: float = Field(
        default=0.0, ge=0, description="Weight of InfoNCE between the tasks of a meta-batch."
    )
    temperature: float = Field(default=0.1, gt=0, description="Temperature of InfoNCE.")
    masked: float = Field(default=0.0, ge=0, description="Weight of masked-pixel denoising.")
    hidden: float = Field(
        default=0.5, gt=0, lt=1, description="Fraction of the pixels that masked denoising hides."
    )
