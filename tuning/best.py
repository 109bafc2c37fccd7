"""The best configuration that a sweep found, as a file that `metatrain train` takes as it is."""

from metatrain.config import Config, to_yaml
from metatrain.model.file import load_model
from metatrain.storage.files import write_file
from tuning.ledger import Ledger, Record


def best_config(ledger: Ledger, record: Record) -> Config:
    """The configuration of a finished trial, adapting with the steps that served best.

    It goes by the sweep's name, and is saved and shown as the base would be.
    """
    config = load_model(f"{ledger.url}/runs/{record.run}").config
    asked = ledger.sweep.asked
    adapt = config.adapt.model_copy(update={"steps": record.reports[-1].k})
    run = asked.run.model_copy(update={"name": f"{ledger.sweep.settings.name}-best"})
    kept = {part: getattr(asked, part) for part in ("checkpoint", "cluster", "validation")}
    return config.model_copy(update={"adapt": adapt, "run": run, **kept})


def write_best(ledger: Ledger, record: Record) -> str:
    """Write `best.yaml`; returns where it lies."""
    config, last, metric = best_config(ledger, record), record.reports[-1], ledger.metric
    said = [
        f"Trial {record.name} of the sweep {ledger.url}: {metric} {last.score:.4f} on unseen tasks",
        f"after {last.k} inner steps. It was trained with inner.steps {config.inner.steps}; of all",
        f"numbers of steps up to {max(last.curve)}, {last.k} was best to adapt with (adapt.steps).",
    ]
    url = f"{ledger.url}/best.yaml"
    write_file(url, ("".join(f"# {line}\n" for line in said) + to_yaml(config)).encode())
    return url
