"""The protocol as every evaluation has it: in a metric network, in HOG and in pixels."""

from collections.abc import Sequence

from metatrain.base.errors import UserError
from metatrain.data.packed.store import EpisodeStore
from metatrain.evaluation.episodes.benchmark import Benchmark, read_benchmark
from metatrain.evaluation.episodes.episode_list import EpisodeList
from metatrain.evaluation.protocol import Protocol
from metatrain.metrics.density_coverage import NEIGHBOURS
from metatrain.metrics.hog import Hog
from metatrain.metrics.network import metric_network
from metatrain.metrics.pixels import Pixels
from metatrain.metrics.space import FeatureSpace


def standard_protocol(
    store: EpisodeStore,
    whole: EpisodeList,
    *,
    tasks: int,
    seeds: int,
    shots: int | None,
    image_size: int,
    channels: int,
    network: str,
    known: Sequence[str] = (),
    pixels: FeatureSpace | None = None,
    others: Sequence[FeatureSpace] = (),
) -> Protocol:
    """Read the images of a list's first episodes, and make their protocol.

    Args:
        store: the data set.
        whole: the list of episodes.
        tasks: at most so many tasks of the list.
        seeds: at most so many seeds of the list.
        shots: support images of an episode, the list's number by default.
        image_size: height and width of the images.
        channels: 1, 3 or 4.
        network: URL of the metric network, which is trained where there is none.
        known: further URLs where it may be; see `metric_network`.
        pixels: the space of pixels, where it does more than compare.
        others: further feature spaces.

    Raises:
        UserError: when the episodes have too few images to score.
    """
    shape = {"image_size": image_size, "channels": channels}
    benchmark = read_benchmark(store, whole.first(tasks, seeds), shots=shots, **shape)
    refuse_too_few(benchmark)
    spaces = [
        metric_network(store, network, **shape, known=known),
        Hog(),
        pixels or Pixels(),
        *others,
    ]
    return Protocol(store, whole, benchmark, spaces)


def refuse_too_few(benchmark: Benchmark) -> None:
    """Refuse episodes whose reference images are too few for a nearest-neighbour score.

    Raises:
        UserError: when they are too few.
    """
    tasks, images = len(benchmark.tasks), benchmark.images
    if tasks * images <= NEIGHBOURS:
        raise UserError(
            f"{tasks} tasks with {images} reference images each are too few to score; score "
            f"{NEIGHBOURS // images + 1} tasks or more, or pack more images of each task."
        )
