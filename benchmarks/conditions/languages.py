"""Captions of emoji in another language than that of the data."""

import json
import re
from typing import Any

from metatrain.base.errors import UserError
from metatrain.data.packing.emoji.catalogue import EMOJIBASE, caption_of
from metatrain.data.packing.npm import members

_LARGEST = 4_000_000


def translated(language: str) -> dict[str, str]:
    """Return the caption in `language`, such as de, by the English one that emoji are packed with.

    Raises:
        UserError: when the package has no such language, or cannot be downloaded.
    """
    wanted = re.compile(rf"package/({re.escape(language)}|en)/data\.json")
    files = {
        name.split("/")[1]: _captions(json.load(file))
        for name, file in members(EMOJIBASE.fetched(), wanted, _LARGEST)
    }
    if language not in files:
        raise UserError(f"emojibase-data has no language '{language}'; give one such as de or ja.")
    return {
        caption: files[language][code]
        for code, caption in files["en"].items()
        if code in files[language]
    }


def _captions(entries: list[dict[str, Any]]) -> dict[str, str]:
    return {
        entry["hexcode"]: caption_of(entry["label"], entry.get("tags", ())) for entry in entries
    }
