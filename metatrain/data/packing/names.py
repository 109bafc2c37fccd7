"""Meanings of names: of tasks, of the folders of splits, and of files that are passed over."""

import re
import unicodedata
from pathlib import PurePosixPath

# Unreadable formats are here too: the user should hear of a file that cannot be used.
_IMAGE_SUFFIX = re.compile(
    r"(\.(a?png|jpe?g?|jfif|webp|gif|bmp|dib|tiff?|hei[cf]|avif|jxl|jp2|svg|ico|psd|tga|p[pgbn]m))?"
)

# Folders of copies, thumbnails and waste that systems put beside a user's files: of Synology,
# QNAP, macOS and Windows. Those of others begin with a dot.
_MACHINE_MADE = frozenset(
    ("@eadir", "@__thumb", "@recycle", "#recycle", "#snapshot", "__macosx", "$recycle.bin")
)
# Files of Windows and macOS themselves; most begin with a dot.
_SYSTEM_FILES = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"))

_SPLITS = {
    "train": re.compile(r"train(ing)?|trn"),
    "val": re.compile(r"val(id(ation)?)?|dev"),
    "test": re.compile(r"test(ing)?|tst"),
}
_SPLIT_ENDING = re.compile(r"[-_ ]?(sets?|data|images|imgs|splits?|(19|20)\d\d)$")
# The split of a shard, such as train-00000-of-00004 or val_017.
_SHARD = re.compile(r"([a-z]+)([-_.]?[\d{].*)?")


def task_name(text: str) -> str:
    """Return a task's name as it is compared: composed (NFC), without blanks around it.

    Two texts that look alike must not become two tasks of one, in two splits.
    """
    shown = (c for c in unicodedata.normalize("NFC", text) if c not in "\u200b\u2060\ufeff")
    return "".join(shown).strip()


def split_named(text: str) -> str | None:
    """Return the split that a folder's name means, such as 'val' for 'Validation_set', or None."""
    word = _SPLIT_ENDING.sub("", text.strip().casefold())
    return next((split for split, spelled in _SPLITS.items() if spelled.fullmatch(word)), None)


def split_of_shard(name: str) -> str | None:
    """Return the split that the name of a file means, such as 'train-00000-of-00004.parquet'."""
    stem = PurePosixPath(name).name.partition(".")[0].casefold()
    shard = _SHARD.fullmatch(stem)
    return split_named(shard[1]) if shard else None


def is_image_name(path: str) -> bool:
    """Tell whether the file at a relative path is taken for an image.

    Hidden files are not, nor those in folders that systems make for themselves.
    """
    known = _IMAGE_SUFFIX.fullmatch(PurePosixPath(path).suffix.lower())
    return bool(path and known) and not is_passed_over(path)


def is_passed_over(path: str) -> bool:
    """Tell whether a relative path is hidden, or of a file or in a folder that no user made."""
    parts = [part.casefold() for part in PurePosixPath(path).parts]
    machine_made = any(part.startswith(".") or part in _MACHINE_MADE for part in parts)
    return machine_made or bool(parts and parts[-1] in _SYSTEM_FILES)
