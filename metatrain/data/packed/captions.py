"""All captions of a packed data set, to be embedded once."""

from metatrain.base.errors import UserError
from metatrain.base.progress import tracked
from metatrain.base.text import listed, printable
from metatrain.data.packed.manifest import SPLITS
from metatrain.data.packed.store import EpisodeStore


def captions_in(url: str, column: str) -> list[str]:
    """Return the distinct captions of all images of a packed data set, in order of their letters.

    Args:
        url: the data set.
        column: of texts.

    Raises:
        UserError: when it cannot be read, or has no such column.
    """
    store = EpisodeStore(url)
    texts = [name for name, section in store.conditions.items() if section["name"] == "text"]
    if column not in texts:
        there = f"only {listed(map(printable, texts))}" if texts else "none at all"
        raise UserError(
            f"{url} has no texts named '{printable(column)}', {there}; pack its captions."
        )
    tasks = [task for split in SPLITS for task in store.tasks(split)]
    captions = {
        value.decode(errors="replace")
        for task in tracked("reading captions", tasks, len(tasks))
        for value in store.read_columns(task, [column])[column]
    }
    return sorted(captions - {""})
