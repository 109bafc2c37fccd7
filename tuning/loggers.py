"""MLflow and W&B, each by one line of the sweep's file."""

import os
from importlib.util import find_spec
from urllib.parse import urlsplit

from ray import tune

from metatrain.base.errors import UserError
from tuning.config import SweepConfig


def loggers_of(settings: SweepConfig) -> list[tune.Callback]:
    """Who else is told of trials; nobody by default.

    Raises:
        UserError: when one is wanted that is not installed.
    """
    found: list[tune.Callback] = []
    if settings.loggers.mlflow:
        _need("mlflow", "mlflow-skinny")
        if urlsplit(settings.loggers.mlflow).scheme in ("", "file"):
            # MLflow 3 takes a folder only from those who ask for one, as this line does.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        found.append(
            MLflowLoggerCallback(
                tracking_uri=settings.loggers.mlflow, experiment_name=settings.name
            )
        )
    if settings.loggers.wandb:
        _need("wandb", "wandb")
        from ray.air.integrations.wandb import WandbLoggerCallback

        found.append(WandbLoggerCallback(project=settings.loggers.wandb, group=settings.name))
    return found


def _need(module: str, package: str) -> None:
    if find_spec(module) is None:
        raise UserError(
            f"loggers.{module} needs the package {package}; install it with pip install {package}, "
            f"or leave loggers.{module} out."
        )
