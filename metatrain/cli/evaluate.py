"""`metatrain evaluate`: scoring models, what other systems drew, and what that needs."""

import argparse
from typing import TYPE_CHECKING

from metatrain.base.errors import UserError
from metatrain.cli.arguments import data_url, positive
from metatrain.cli.command import Command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metatrain.data.packed.store import EpisodeStore
    from metatrain.evaluation.candidates import Candidate
    from metatrain.evaluation.cross_domain import Domain
    from metatrain.evaluation.episodes.benchmark import Benchmark
    from metatrain.evaluation.episodes.episode_list import EpisodeList
    from metatrain.evaluation.protocol import Entrant, Protocol
    from metatrain.evaluation.running.runner import Runner

# Words that stand where models would.
_EPISODES, _TRAIN_METRIC, _CALIBRATE = "episodes", "train-metric", "calibrate"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "what",
        metavar="CHECKPOINT",
        nargs="*",
        help="model files, or folders of runs or checkpoints; or the word episodes, to write the "
        "list of episodes to --out and the supports to --export; or the word train-metric, to "
        "train the metric network of --data to --out; or the word calibrate and a model, which is "
        "then told what it does on tasks of the split val, to tell what to expect of others",
    )
    add = parser.add_argument
    add(
        "--data",
        metavar="URL",
        action="append",
        help="packed data (that of the first model's training); given several times: a table of "
        "all models on all of it",
    )
    add("--split", default="test", choices=["train", "val", "test"], help="whose tasks (test)")
    add("--shots", type=positive, metavar="K", help="support images (those of the training)")
    add("--tasks", type=positive, default=1000, help="how many of the list's tasks at most (1000)")
    add("--seeds", type=positive, default=3, help="how many of the list's seeds at most (3)")
    add("--episodes", metavar="FILE", help="the list of episodes (the one that follows from data)")
    add("--joint", metavar="CHECKPOINT", help="a jointly trained model, to be fine-tuned")
    add("--samples", metavar="DIR", help="images that another system drew of the episodes")
    add("--metric", metavar="FILE", help="metric network (metric.safetensors in the output)")
    add("--features", metavar="FILE", help="features that another program computed")
    add("--workers", type=positive, metavar="N", help="processes that share the work (all cores)")
    add("--size", type=positive, help="of images without a model, in pixels (that of the data)")
    add("--export", metavar="DIR", help="write the images that were compared, or the supports")
    add("--out", metavar="DIR", help="where to (evaluation/ beside each checkpoint)")


def evaluate(arguments: argparse.Namespace, runner: "Runner | None" = None) -> None:
    """Do what was asked for; `runner` does the work, processes of this machine by default.

    Raises:
        UserError: when something is missing or cannot be used.
    """
    if arguments.what == [_EPISODES]:
        _write_episodes(arguments)
    elif arguments.what == [_TRAIN_METRIC]:
        _train_metric(arguments)
    elif arguments.what[:1] == [_CALIBRATE]:
        _calibrate(arguments, runner)
    elif arguments.what:
        _score_models(arguments, runner)
    elif arguments.samples:
        _score_samples(arguments)
    else:
        raise UserError("there is nothing to evaluate; name a CHECKPOINT, or give --samples.")


def _write_episodes(arguments: argparse.Namespace) -> None:
    from metatrain.evaluation.episodes.samples_of_others import export
    from metatrain.storage.files import write_file

    if not (arguments.out or arguments.export):
        raise UserError("give --out, a file for the list, or --export, a folder for supports.")
    store = _store(arguments.data)
    whole = _list(arguments, store)
    if arguments.export:
        size, channels = store.shape()
        benchmark = _benchmark(arguments, store, whole, (arguments.size or size, channels))
        export(benchmark, whole, arguments.export)
        print(arguments.export)
    if arguments.out:
        write_file(arguments.out, whole.content())
        print(arguments.out)
    published = "published" if whole.published else "not published"
    print(f"{len(whole.tasks)} tasks, {whole.seeds} seeds; sha256 {whole.sha256} ({published})")


def _train_metric(arguments: argparse.Namespace) -> None:
    from metatrain.data.config import DataConfig
    from metatrain.metrics.network import metric_network

    if not arguments.out:
        raise UserError("give --out, a .safetensors file for the metric network.")
    store = _store(arguments.data)
    size, channels = store.shape()
    data = DataConfig.model_validate({"image_size": arguments.size or size, "channels": channels})
    network = metric_network(store, data, arguments.out)
    print(f"{arguments.out}\nsha256 {network.sha256}")


def _calibrate(arguments: argparse.Namespace, runner: "Runner | None") -> None:
    from metatrain.evaluation.calibrate import calibrate, refuse_checkpoints
    from metatrain.evaluation.candidates import placed, read_candidates
    from metatrain.evaluation.running.runner import Here
    from metatrain.model.file import save_model

    if len(arguments.what) != 2:
        raise UserError("name one CHECKPOINT to calibrate: metatrain evaluate calibrate CHECKPOINT")
    [candidate] = read_candidates(arguments.what[1:])
    config, url = candidate.model.config.data, arguments.out or candidate.system.url
    refuse_checkpoints(url)
    arguments.split, arguments.shots = "val", config.shots
    store = _store(arguments.data or [data_url(candidate.model.config)])
    [candidate] = placed([candidate], store, None)
    shape = (config.image_size, config.channels)
    protocol = _protocol(arguments, store, shape, candidate.folder)
    model = calibrate(protocol, candidate, runner or Here(arguments.workers))
    save_model(model, url)
    print(url)


def _score_models(arguments: argparse.Namespace, runner: "Runner | None") -> None:
    from metatrain.evaluation.candidates import check_same_images, read_candidates, read_joint
    from metatrain.evaluation.cross_domain import cross_table
    from metatrain.evaluation.running.runner import Here

    candidates = read_candidates(arguments.what)
    joint = read_joint(arguments.joint) if arguments.joint else None
    check_same_images([*candidates, *([joint] if joint else [])])
    urls = arguments.data or [data_url(candidates[0].model.config)]
    _refuse_what_is_of_one_data_set(arguments, urls)
    runner = runner or Here(arguments.workers)
    domains = [_score_on(arguments, _store([url]), candidates, joint, runner) for url in urls]
    if len(domains) > 1:
        print(cross_table(domains))


def _refuse_what_is_of_one_data_set(arguments: argparse.Namespace, urls: "Sequence[str]") -> None:
    for option in ("episodes", "samples", "metric", "features", "joint"):
        if len(urls) > 1 and getattr(arguments, option):
            raise UserError(f"--{option} is of one data set; give --data once, or leave it out.")


def _score_on(
    arguments: argparse.Namespace,
    store: "EpisodeStore",
    models: "Sequence[Candidate]",
    joint: "Candidate | None",
    runner: "Runner",
) -> "Domain":
    """Score all models on one data set, which costs most of the time."""
    from metatrain.evaluation.candidates import evaluate_models, home_of, placed
    from metatrain.evaluation.cross_domain import Domain
    from metatrain.evaluation.episodes.episode_list import benchmark_of
    from metatrain.evaluation.episodes.samples_of_others import read_samples
    from metatrain.evaluation.terminal_table import comparisons, main_scores, table

    candidates, data = placed(models, store, _out(arguments, store)), models[0].model.config.data
    arguments.shots = arguments.shots or data.shots
    shape = (data.image_size, data.channels)
    protocol = _protocol(arguments, store, shape, home_of(candidates))
    samples: dict[str, Entrant] = {}
    if arguments.samples:
        name = _name_of_samples(arguments)
        images = read_samples(arguments.samples, protocol.benchmark)
        samples[name] = protocol.images(name, arguments.samples, images)
    found: dict[str, Entrant] = {}
    for evaluation, entrants in evaluate_models(protocol, candidates, joint, samples, runner):
        print(table(evaluation))
        print(comparisons(evaluation.system, entrants | found), end="\n\n")
        found[evaluation.system] = entrants[evaluation.system]
    natives = [candidate.name for candidate in candidates if candidate.native]
    return Domain(benchmark_of(store), {n: main_scores(e) for n, e in found.items()}, natives)


def _out(arguments: argparse.Namespace, store: "EpisodeStore") -> str | None:
    """Where to, for one data set of perhaps several."""
    from metatrain.evaluation.candidates import label_of

    several = arguments.out and len(arguments.data or ()) > 1
    return f"{arguments.out}/{label_of(store)}" if several else arguments.out


def _score_samples(arguments: argparse.Namespace) -> None:
    from metatrain.evaluation.episodes.samples_of_others import read_samples, shape_of_samples
    from metatrain.evaluation.results import write_evaluation
    from metatrain.evaluation.terminal_table import comparisons, table

    folder = arguments.out or f"{arguments.samples.rstrip('/')}/evaluation"
    store, shape = _store(arguments.data), shape_of_samples(arguments.samples)
    protocol = _protocol(arguments, store, shape, folder)
    images = read_samples(arguments.samples, protocol.benchmark)
    name = _name_of_samples(arguments)
    entrants = protocol.beside({name: protocol.images(name, arguments.samples, images)})
    evaluation = protocol.evaluation(name, 0, entrants, images, folder)
    write_evaluation(evaluation, {n: e.scores for n, e in entrants.items()}, folder)
    print(table(evaluation))
    print(comparisons(evaluation.system, entrants))


def _name_of_samples(arguments: argparse.Namespace) -> str:
    return f"samples {arguments.samples.rstrip('/').rpartition('/')[2]}"


def _protocol(
    arguments: argparse.Namespace, store: "EpisodeStore", shape: tuple[int, int], folder: str
) -> "Protocol":
    from metatrain.data.config import DataConfig
    from metatrain.evaluation.protocol import Protocol
    from metatrain.metrics.hog import Hog
    from metatrain.metrics.network import metric_network
    from metatrain.metrics.pixels import ExportedPixels, Pixels
    from metatrain.metrics.precomputed import Precomputed

    whole = _list(arguments, store)
    benchmark = _benchmark(arguments, store, whole, shape)
    data = DataConfig.model_validate({"image_size": shape[0], "channels": shape[1]})
    network = metric_network(store, data, arguments.metric or f"{folder}/metric.safetensors")
    pixels = ExportedPixels(arguments.export) if arguments.export else Pixels()
    given = [Precomputed(arguments.features)] if arguments.features else []
    return Protocol(store, whole, benchmark, [network, Hog(), pixels, *given])


def _store(data: "Sequence[str] | None") -> "EpisodeStore":
    from metatrain.data.packed.store import EpisodeStore

    if not data or len(data) > 1:
        raise UserError("give --data, the URL of a packed data set, once.")
    return EpisodeStore(data[0])


def _list(arguments: argparse.Namespace, store: "EpisodeStore") -> "EpisodeList":
    from metatrain.evaluation.episodes.episode_list import list_episodes, read_list

    if arguments.episodes:
        return read_list(arguments.episodes, store)
    return list_episodes(store, arguments.split)


def _benchmark(
    arguments: argparse.Namespace,
    store: "EpisodeStore",
    whole: "EpisodeList",
    shape: tuple[int, int],
) -> "Benchmark":
    from metatrain.evaluation.episodes.benchmark import read_benchmark

    first = whole.first(arguments.tasks, arguments.seeds)
    return read_benchmark(store, first, arguments.shots, *shape)


EVALUATE = Command("Score models on unseen tasks.", add_arguments, evaluate)
