"""The trainings: the backbone from nothing, then the starts of a LoRA over it."""

from typing import Any

from benchmarks.backbones.concepts.plan import STANDARD, Plan
from benchmarks.equal_compute import planned_training
from metatrain.api import train
from metatrain.base.progress import say
from metatrain.config import Config, load_config, with_values
from metatrain.generators.frozen import pinned
from metatrain.model.export.backbone import export_merged
from metatrain.model.model import Model
from metatrain.storage.files import exists
from metatrain.training.initial_weights import initial_weights

_TERA = 1e12
# An interrupted training loses at most one of so many parts.
_PARTS = 20


class Trainings:
    """The trainings of a plan, in a folder; one that was interrupted resumes.

    Args:
        plan: the file of the benchmark.
        folder: the folder.
    """

    def __init__(self, plan: Plan, folder: str) -> None:
        self._plan, self._folder = plan, folder

    def start(self, name: str) -> Model:
        """Return a start of the LoRA, trained if it is not yet; so is the backbone."""
        if name == STANDARD:
            config = pinned(self._lora_config(name, {}))
            return Model(config, initial_weights(config), step=0)
        config = self._lora_config(name, self._plan.starts[name])
        planned = planned_training(name, config, self._plan.tflop * _TERA).config
        every = {"checkpoint.every": max(1, planned.meta.steps // _PARTS)}
        say(f"start {name}: {planned.meta.steps:,} outer steps")
        return train(with_values(planned, every), device="cpu")

    def _lora_config(self, name: str, changes: dict[str, Any]) -> Config:
        backbone = {"generator.path": self._backbone()}
        steps = {"adapt.steps": self._plan.inner_steps[-1]}
        return self._config(self._plan.lora, name, backbone | steps | changes)

    def _backbone(self) -> str:
        """Return the folder of the backbone's weights, as diffusers writes them."""
        folder = f"{self._folder}/backbone"
        if not exists(f"{folder}/diffusion_pytorch_model.safetensors"):
            config = self._config(self._plan.backbone, "backbone", {})
            say(f"backbone: {config.meta.steps:,} outer steps")
            export_merged(train(config, device="cpu"), folder)
        return folder

    def _config(self, base: str, name: str, changes: dict[str, Any]) -> Config:
        run = {"run.dir": f"{self._folder}/trainings", "run.name": name}
        return with_values(load_config(base), run | changes)
