"""The best configuration of a sweep, as a file for `metatrain train`."""

from metatrain.config import Config, to_yaml
from metatrain.model.file import load_model
from metatrain.storage.files import write_file
from tuning.ledger import SweepLedger, TrialRecord


def best_config(ledger: SweepLedger, record: TrialRecord) -> Config:
    """Return the configuration of a finished trial, with its best number of adapting steps.

    Its run is named after the sweep; checkpoints, validation and cluster are those of the base.
    """
    config = load_model(f"{ledger.url}/runs/{record.run}", trust=True).config
    original = ledger.sweep.original
    adapt = config.adapt.model_copy(update={"steps": record.reports[-1].k})
    run = original.run.model_copy(update={"name": f"{ledger.sweep.settings.name}-best"})
    kept = {part: getattr(original, part) for part in ("checkpoint", "cluster", "validation")}
    return config.model_copy(update={"adapt": adapt, "run": run, **kept})


def write_best(ledger: SweepLedger, record: TrialRecord) -> str:
    """Write `best.yaml`; returns its URL."""
    config, report = best_config(ledger, record), record.reports[-1]
    comment = [
        f"Trial {record.name} of the sweep {ledger.url}: {ledger.metric} {report.score:.4f} on",
        f"unseen tasks after {report.k} inner steps. It was trained with inner.steps",
        f"{config.inner.steps}; of all numbers of steps up to {max(report.curve)}, {report.k} is "
        f"best to adapt with (adapt.steps).",
    ]
    url = f"{ledger.url}/best.yaml"
    write_file(url, ("".join(f"# {line}\n" for line in comment) + to_yaml(config)).encode())
    return url
