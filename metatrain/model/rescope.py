"""Adaptation of a trained model in another scope than it was trained with."""

from metatrain.base.errors import UserError
from metatrain.base.parameters import Parameters
from metatrain.base.section import Section
from metatrain.config import Config, with_values
from metatrain.learning.inner.deltas import DELTA
from metatrain.learning.inner.theta import RULE
from metatrain.model.build import build_theta


def keeps_scope(config: Config, parameters: Parameters) -> bool:
    """Tell whether a model can be adapted in the scope of its training alone."""
    bound = config.learner.scope or config.generator.scope
    # The parameters that these scopes have added to the weights do not fit any other scope.
    added = config.inner.scope.name in ("lora", "lora_mixture", "context")
    kept = any(name.startswith(RULE) or f".{DELTA}." in name for name in parameters)
    return bool(bound) or added or kept


def refuse_scope(config: Config, parameters: Parameters, scope: str) -> None:
    """Refuse a scope that a model cannot be adapted in.

    Raises:
        UserError: when training has fixed another one.
    """
    if scope != config.inner.scope.name and keeps_scope(config, parameters):
        raise UserError(
            f"scope is {scope}, and this model can only be adapted in the scope of its training, "
            f"{config.inner.scope.name}; leave scope out."
        )


def rescoped(
    config: Config, parameters: Parameters, scope: str, settings: Section | None = None
) -> tuple[Config, Parameters]:
    """Return a model's configuration and parameters with another scope of the inner loop.

    Before adapting, it samples the same images.

    Args:
        config: the model's configuration.
        parameters: the model's parameters.
        scope: the name of the scope.
        settings: its section; its defaults by default.

    Raises:
        UserError: when there is no such scope, or training has fixed it.
    """
    refuse_scope(config, parameters, scope)
    if scope == config.inner.scope.name:
        return config, parameters
    section = {"name": scope} if settings is None else settings.model_dump()
    config = with_values(config, {"inner.scope": section})
    fresh = build_theta(config).copy()
    device = next(iter(parameters.values())).device
    return config, {n: parameters.get(n, v).to(device) for n, v in fresh.items()}
