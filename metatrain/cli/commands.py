"""The commands of `metatrain` itself; packages above add theirs by entry points.

A command imports its rooms when it runs, so that `metatrain --help` does not wait for torch.
"""

from metatrain.cli.calibrate import CALIBRATE
from metatrain.cli.codec import CODEC
from metatrain.cli.combine import COMBINE
from metatrain.cli.compress import COMPRESS
from metatrain.cli.config import CONFIG
from metatrain.cli.data import DATA, PACK, STORE
from metatrain.cli.distill import DISTILL
from metatrain.cli.drawings import DRAWINGS
from metatrain.cli.embed_text import EMBED_TEXT
from metatrain.cli.encode import ENCODE
from metatrain.cli.enlarge import ENLARGE
from metatrain.cli.episodes import EPISODES
from metatrain.cli.evaluate import EVALUATE
from metatrain.cli.export import EXPORT
from metatrain.cli.font import FONT
from metatrain.cli.from_lora import FROM_LORA
from metatrain.cli.group import GROUP
from metatrain.cli.model import ADAPT, GENERATE, TUNE_ADAPTATION
from metatrain.cli.models import MODELS, SHIP
from metatrain.cli.plan import PLAN
from metatrain.cli.prefer import PREFER
from metatrain.cli.recipe import RECIPE
from metatrain.cli.refine import REFINE
from metatrain.cli.report import REPORT
from metatrain.cli.train_metric import TRAIN_METRIC

COMMANDS = {
    "recipe": RECIPE,
    "config": CONFIG,
    "plan": PLAN,
    "pack": PACK,
    "data": DATA,
    "group": GROUP,
    "store": STORE,
    "models": MODELS,
    "adapt": ADAPT,
    "generate": GENERATE,
    "drawings": DRAWINGS,
    "prefer": PREFER,
    "font": FONT,
    "enlarge": ENLARGE,
    "refine": REFINE,
    "evaluate": EVALUATE,
    "calibrate": CALIBRATE,
    "episodes": EPISODES,
    "train-metric": TRAIN_METRIC,
    "tune-adaptation": TUNE_ADAPTATION,
    "codec": CODEC,
    "encode": ENCODE,
    "embed-text": EMBED_TEXT,
    "distill": DISTILL,
    "compress": COMPRESS,
    "export": EXPORT,
    "from-lora": FROM_LORA,
    "combine": COMBINE,
    "report": REPORT,
    "ship": SHIP,
}
