"""The members of a combination, and the check that they fit together."""

from collections.abc import Mapping, Sequence

from metatrain.base.errors import UserError
from metatrain.config import Config, differences
from metatrain.model.file import load_model
from metatrain.model.model import Model

# The keys that members must share.
_SHARED = ("generator.", "codec.", "data.image_size", "data.channels")


def load_members(urls: Sequence[str], *, trust: bool = False) -> dict[str, Model]:
    """Load the models at `urls`, by URL in that order; `load_model` says what a URL may be.

    Raises:
        UserError: when there are fewer than two, or one is given twice or cannot be read, or its
            network or image shape is not that of the first.
    """
    twice = [url for i, url in enumerate(urls) if url in urls[:i]]
    if twice:
        raise UserError(f"{twice[0]} is given twice; give each model once.")
    if len(urls) < 2:
        raise UserError(f"{urls[0]} cannot be combined alone; give two models or more.")
    members = {url: load_model(url, trust=trust) for url in urls}
    for url, model in members.items():
        keys = _differing(model.config, members[urls[0]].config)
        if keys:
            raise UserError(
                f"{url} cannot be combined with {urls[0]}: they differ in {', '.join(keys)}; "
                f"give models of one network and one size of images."
            )
    return members


def combined_step(members: Mapping[str, Model]) -> int:
    """Return the outer steps of a combination: those of the member with most."""
    return max(model.step for model in members.values())


def _differing(a: Config, b: Config) -> list[str]:
    return [key for key in differences(a, b) if key.startswith(_SHARED)]
