"""The systems that are compared: each enlarges an image, and takes its time."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from metatrain.config import load_config, with_values
from metatrain.data.degradations.bicubic import resampled
from metatrain.data.degradations.degradation import Degradation
from metatrain.data.photo import Photo
from metatrain.model.build import build_theta
from metatrain.model.enlarge import enlarged, enlarging_network
from metatrain.model.file import load_model
from metatrain.model.model import Model
from metatrain.model.self_support import support_of

# From an image of low resolution, uint8 [h, w, 3], to [H, W, 3] in 0 .. 255.
System = Callable[[np.ndarray], np.ndarray]

ZSSR_LR = 1e-3


def systems(
    models: Mapping[str, str],
    degradation: Callable[[np.ndarray], Degradation],
    *,
    scale: int,
    steps: Sequence[int],
    zssr_steps: int,
    width: int,
) -> dict[str, System]:
    """Return the systems by their names.

    Args:
        models: the model of each name, a file or a run's folder.
        degradation: of an image of low resolution, as the systems are told it.
        scale: of all.
        steps: inner steps after which each model is measured.
        zssr_steps: steps of ZSSR, which trains anew for each image; 0 leaves it out.
        width: channels of ZSSR's network.
    """
    result: dict[str, System] = {"bicubic": lambda low: _bicubic(low, scale)}
    if zssr_steps:
        zssr = _untrained(width, scale)
        result[f"ZSSR, {zssr_steps} steps"] = _adapted(zssr, degradation, zssr_steps)
    for name, url in models.items():
        model = load_model(url, trust=True)
        for count in steps:
            result[f"{name}, {count} steps"] = _adapted(model, degradation, count)
    return result


def _bicubic(low: np.ndarray, scale: int) -> np.ndarray:
    large = resampled(low.transpose(2, 0, 1).astype(np.float64), scale)
    return large.clip(0, 255).transpose(1, 2, 0)


def _untrained(width: int, scale: int) -> Model:
    config = load_config(
        None,
        [
            *("objective.name=super_resolution", "generator.name=residual"),
            *(f"generator.width={width}", "data.channels=3", f"data.image_size={32 * scale}"),
            *("data.tasks.name=degradations", f"data.tasks.scale={scale}"),
            *("inner.optimizer=adam", f"adapt.lr={ZSSR_LR}"),
        ],
    )
    return Model(with_values(config, {"seed": 0}), build_theta(config).copy(), 0)


def _adapted(model: Model, degradation: Callable[[np.ndarray], Degradation], steps: int) -> System:
    data = model.config.data

    def enlarge(low: np.ndarray) -> np.ndarray:
        adapted, known = model, degradation(low)
        if steps:
            support = support_of(Photo(low), known, channels=data.channels, size=data.image_size)
            adapted = model.adapt(support, steps=steps)
        network = enlarging_network(adapted.generator())
        return enlarged(network, Photo(low), known.scale, data.channels).pixels

    return enlarge
