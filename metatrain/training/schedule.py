"""The outer learning rate over the outer steps."""

from metatrain.config import MetaConfig


def learning_rate(config: MetaConfig, step: int) -> float:
    """Return the outer rate at `step`, from 0: linear warm-up, constant, linear decay to 0."""
    rise = (step + 1) / (config.warmup + 1)
    fall = (config.steps - step) / max(1.0, config.decay * config.steps)
    return config.lr * min(1.0, rise, fall)
