"""The LoRA of an adapted model, as a file that other tools read."""

from metatrain.base.errors import UserError
from metatrain.model.export.backbone import adapter_files
from metatrain.model.lora_layouts import LORA_FILE
from metatrain.model.model import Model
from serving.archive import zipped
from serving.records import LoraName


def lora_file(before: Model, adapted: Model) -> tuple[LoraName, bytes] | None:
    """Return the name and the content of a file that other tools read as a LoRA.

    It has kohya's names, which most tools read; for backbones that have none there, it is an
    archive of the two files of PEFT.

    Args:
        before: the model that was adapted.
        adapted: the adapted model.

    Returns:
        None where no LoRA over a backbone is all that was learned.
    """
    scopes = {model.config.inner.scope.name for model in (before, adapted)}
    if adapted.config.generator.name != "diffusers" or scopes != {"lora"}:
        return None
    try:
        return "lora.safetensors", adapter_files(adapted, "kohya")[LORA_FILE]
    except UserError:
        return "lora.zip", zipped(adapter_files(adapted, "peft").items())
