"""The benefit of words: a model given 0, 1 or 3 images, and no words, the right or wrong ones.

    python -m benchmarks.conditions MODEL --out DIR [--language de]

On the first tasks of the split test: whether a judge that was trained on the training tasks alone
finds the right caption of a sample among 100 captions, and the usual scores of images. Wrong words
are those of another task; where they hurt nothing, a model ignores words. Samples are kept under
--out, so that the same command resumes; it ends in a table and a picture there.
"""

import argparse
import sys
from collections.abc import Sequence

import torch

from benchmarks.commands import resumable
from benchmarks.conditions.bench import Bench, another, parser_of
from benchmarks.conditions.languages import translated
from benchmarks.conditions.systems import NO_WORDS, RIGHT, WRONG, Told, systems_of
from metatrain.base.errors import UserError
from metatrain.model.file import load_model
from metatrain.model.given import condition_of_kind


def main(argv: Sequence[str] | None = None) -> int:
    """Sample what is missing, and write the table and the picture."""
    parser = parser_of("What words add to images.")
    parser.add_argument(
        "--language", nargs="*", default=[], help="further languages of the words, such as de"
    )
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    return resumable(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    model = load_model(options.model, trust=True)
    condition = condition_of_kind("text", model.config)
    bench = Bench(model, condition, options)
    words = {RIGHT: bench.captions, WRONG: another(bench.captions)}
    words |= {name: _in_language(bench.captions, name) for name in options.language}
    systems = systems_of(options.shots, [RIGHT, WRONG, *options.language])
    shown = [Told(0, RIGHT), *(Told(options.shots[-1], w) for w in (NO_WORDS, RIGHT, WRONG))]
    bench.measure(condition, words, systems, shown)


def _in_language(captions: Sequence[str], language: str) -> list[str]:
    translations = translated(language)
    missing = [caption for caption in captions if caption not in translations]
    if missing:
        raise UserError(
            f"'{missing[0]}' is no caption of an emoji that has one in '{language}'; "
            f"leave --language out for other data than emoji."
        )
    return [translations[caption] for caption in captions]


if __name__ == "__main__":
    sys.exit(main())
