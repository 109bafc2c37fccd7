"""Measure how well codecs bring back the images of held-out tasks.

    python -m benchmarks.latents DATA "codec.name=trained codec.path=codec.safetensors" ...

Prints, for each codec, the shape of a latent, its parameters, and the peak signal-to-noise ratio:
the mean over tasks, and the worst task.
"""

import argparse
import shlex

from metatrain.base.tables import aligned
from metatrain.config import load_config
from metatrain.data.packed.store import EpisodeStore
from metatrain.evaluation.reconstruction import mean_psnr, reconstructions
from metatrain.generators import CODECS

_HEADS = ["codec", "latent", "parameters", "mean PSNR", "worst task"]


def row(settings: str, store: EpisodeStore, tasks: int) -> list[str]:
    """Measure the codec of some overrides of the configuration."""
    size, channels = store.shape()
    section = load_config(None, shlex.split(settings)).codec
    codec = CODECS[section.name](section)
    results = reconstructions(codec, store, "test", size=size, channels=channels, tasks=tasks)
    return [
        settings,
        " x ".join(map(str, codec.shape(channels, size))),
        f"{sum(p.numel() for p in codec.parameters()):,}",
        f"{mean_psnr(results):.1f} dB",
        f"{min(result.psnr for result in results):.1f} dB",
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", metavar="DATA", help="packed data set")
    parser.add_argument("codecs", nargs="+", metavar="SETTINGS", help="such as codec.name=trained")
    parser.add_argument("--tasks", type=int, default=40, help="tasks of the split test (40)")
    arguments = parser.parse_args()
    store = EpisodeStore(arguments.data)
    rows = [row(settings, store, arguments.tasks) for settings in arguments.codecs]
    print(aligned([_HEADS, *rows], justify="right"))


if __name__ == "__main__":
    main()
