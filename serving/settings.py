"""Settings in requests: the fields of forms, and the JSON of bodies."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, Json, WithJsonSchema

from metatrain.preferences.choices import Answer, Marking

_SEED = Field(default=0, ge=0, lt=2**32)
# Where the square of an image lies along its longer side, from 0 at its left or top to 1.
Crop = Annotated[float, Field(ge=0, le=1)]
# Every drawing has its words in the state, which memory holds and each change writes anew.
Words = Annotated[str, Field(max_length=2000)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PictureSettings(_Settings):
    """The fields beside an image to show.

    Attributes:
        model: the name of the model.
        whole: whether to show what the crop leaves out too.
    """

    model: str
    whole: bool = False


class AdaptationSettings(_Settings):
    """The fields beside the images of an adaptation.

    Attributes:
        model: the name of the model.
        seed: of the noise of the inner steps.
        steps: inner steps; None for the model's.
        previews: whether to draw on the way.
        crops: a list with one for each image; without it, all are cropped to their centre.
        urls: a list of the URLs of further images, where the server fetches any.
        text: words on the images, or in their place, where the model takes words.
    """

    model: str
    seed: int = _SEED
    steps: int | None = Field(default=None, ge=1)
    previews: bool = True
    crops: Json[tuple[Crop, ...]] | None = None
    urls: Json[tuple[str, ...]] = ()
    text: Words | None = None


# Files of a form.
File = Annotated[bytes, WithJsonSchema({"type": "string", "format": "binary"})]
Files = list[File]


class PictureForm(PictureSettings):
    """An image to show, for the document."""

    images: Annotated[Files, Field(min_length=1)]


class AdaptationForm(AdaptationSettings):
    """Images to adapt to and what is beside them, for the document.

    Attributes:
        images: at least one, where there is neither text nor audio.
        audio: a sound, where the model takes sounds.
    """

    images: Files = []
    audio: File | None = None


class SampleSettings(_Settings):
    """The body of a request for samples: image i has the seed `seed` + i."""

    count: int = Field(default=1, ge=1)
    seed: int = _SEED
    steps: int | None = Field(default=None, ge=1)
    guidance: float | None = Field(default=None, ge=0, le=100)
    text: Words | None = None


class ChoiceSettings(_Settings):
    """The answer to a pair: its number, the better side, and how long that took."""

    number: int = Field(ge=0, lt=2**32)
    answer: Answer
    seconds: float = Field(ge=0, le=1e7)


class MarkSettings(_Settings):
    """The mark of a drawing, which takes the place of an earlier one.

    Attributes:
        drawing: its name.
        mark: "none" takes an earlier mark back.
    """

    drawing: str = Field(max_length=200)
    mark: Marking


class KeepSettings(_Settings):
    """The body of a change of a drawing."""

    kept: bool
