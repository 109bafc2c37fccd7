"""The commands of this package: what they take, and which room they lead to.

Rooms are imported when their command runs, so that `metatrain --help` does not wait for torch.
"""

from metatrain.cli.combine import add_ways, combine
from metatrain.cli.command import Command
from metatrain.cli.config import _config, _config_arguments
from metatrain.cli.data import (
    _data,
    _data_arguments,
    _pack,
    _pack_arguments,
    _store,
    _store_arguments,
)
from metatrain.cli.evaluate import add_arguments as add_evaluate_arguments
from metatrain.cli.evaluate import evaluate
from metatrain.cli.model import (
    _adapt,
    _adapt_arguments,
    _generate,
    _generate_arguments,
    _tune_adaptation,
    _tune_adaptation_arguments,
)
from metatrain.cli.plan import add_arguments as add_plan_arguments
from metatrain.cli.plan import plan
from metatrain.cli.report import _report, _report_arguments

COMMANDS = {
    "config": Command("Print the whole configuration, resolved.", _config_arguments, _config),
    "plan": Command("Predict a run's memory, traffic, time and cost.", add_plan_arguments, plan),
    "pack": Command("Pack images, grouped into tasks.", _pack_arguments, _pack),
    "data": Command("Verify a packed data set, and say what it holds.", _data_arguments, _data),
    "store": Command("Run an S3 server on this machine.", _store_arguments, _store),
    "adapt": Command("Adapt a model to a handful of images.", _adapt_arguments, _adapt),
    "generate": Command("Draw new images.", _generate_arguments, _generate),
    "evaluate": Command("Score models on unseen tasks.", add_evaluate_arguments, evaluate),
    "tune-adaptation": Command(
        "Find how a model adapts best.", _tune_adaptation_arguments, _tune_adaptation
    ),
    "combine": Command("Make one model of several.", add_ways, combine),
    "report": Command("Write a run's page, or one that compares runs.", _report_arguments, _report),
}
