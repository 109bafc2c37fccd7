"""The models that are combined, checked to be of one kind."""

from collections.abc import Mapping, Sequence

from metatrain.base.errors import UserError
from metatrain.config import Config, differences
from metatrain.model.file import Model, load_model

# What two models must agree on.
_NETWORK = ("generator.", "codec.", "data.image_size", "data.channels")


def load_members(urls: Sequence[str]) -> dict[str, Model]:
    """The models at `urls` by URL, in that order; see `load_model` for what a URL may be.

    Raises:
        UserError: when they are fewer than two, or one is given twice, or cannot be read, or its
            network or images are not those of the first.
    """
    twice = [url for i, url in enumerate(urls) if url in urls[:i]]
    if twice:
        raise UserError(f"{twice[0]} is given twice; give each model once.")
    if len(urls) < 2:
        raise UserError(f"{urls[0]} alone cannot be combined; give two models or more.")
    members = {url: load_model(url) for url in urls}
    for url, model in members.items():
        keys = _differing(model.config, members[urls[0]].config)
        if keys:
            raise UserError(
                f"{url} cannot be combined with {urls[0]}: they differ in {', '.join(keys)}; "
                f"give models of one network and one size of images."
            )
    return members


def steps_behind(members: Mapping[str, Model]) -> int:
    """The outer steps that a combination is said to have: those of its oldest member."""
    return max(model.step for model in members.values())


def _differing(a: Config, b: Config) -> list[str]:
    return [key for key in differences(a, b) if key.startswith(_NETWORK)]
