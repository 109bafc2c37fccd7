"""Experiment trackers: MLflow and W&B, each by one line of the sweep's file, and TensorBoard."""

import os
from importlib.util import find_spec
from urllib.parse import urlsplit

from ray import tune
from torch.utils.tensorboard import SummaryWriter

from metatrain.base.errors import UserError
from metatrain.storage.files import absolute
from tuning.config import SweepConfig
from tuning.ledger import SweepLedger, TrialRecord


def build_loggers(settings: SweepConfig) -> list[tune.Callback]:
    """Build the callbacks of the trackers that the settings name; none by default.

    Raises:
        UserError: when the package of a tracker is not installed.
    """
    loggers: list[tune.Callback] = []
    if settings.loggers.mlflow:
        _require("mlflow", "mlflow-skinny")
        if urlsplit(settings.loggers.mlflow).scheme in ("", "file"):
            # MLflow 3 needs this permission for a folder, which the user asks for here.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        loggers.append(
            MLflowLoggerCallback(
                tracking_uri=settings.loggers.mlflow, experiment_name=settings.name
            )
        )
    if settings.loggers.wandb:
        _require("wandb", "wandb")
        from ray.air.integrations.wandb import WandbLoggerCallback

        loggers.append(WandbLoggerCallback(project=settings.loggers.wandb, group=settings.name))
    return loggers


def _require(module: str, package: str) -> None:
    if find_spec(module) is None:
        raise UserError(
            f"loggers.{module} needs the package {package}; install it with pip install {package}, "
            f"or leave loggers.{module} out."
        )


def write_hparams(ledger: SweepLedger, record: TrialRecord) -> None:
    """Write a trial that has ended to TensorBoard's HParams."""
    report = record.last_report
    metrics = {}
    if report:
        metrics = {
            f"sweep/{name}": getattr(report, name) for name in ("score", "k", "loss", "step")
        }
    values = {
        key: value if isinstance(value, int | float | str | bool) else str(value)
        for key, value in record.values.items()
    }
    with SummaryWriter(absolute(f"{ledger.url}/tensorboard")) as writer:
        writer.add_hparams(values, metrics, run_name=record.name)
