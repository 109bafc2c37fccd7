"""Attribution of the icons to their authors, as the licences require."""

from collections import Counter
from collections.abc import Iterable

from metatrain.data.packing.icons.package import ICONIFY
from metatrain.data.packing.icons.sets import Icon, IconSet

_HEAD = f"""# Attribution

The images of this data set are icons of the sets below, taken from the npm package
`{ICONIFY.name}` {ICONIFY.version}, under the licence that stands beside each. They were drawn
{{how}} at one size and in no other way changed. Each row of the data says which icon of which set
its image is, in the column `icon`, and under which licence.{{more}}

| set | author | licence | icons | from |
|---|---|---|---|---|
"""


def attribution(
    sets: Iterable[IconSet], packed: Iterable[Icon], *, how: str, more: str = ""
) -> bytes:
    """Return a Markdown file with every set of the `packed` icons, and their number.

    Args:
        sets: all sets.
        packed: the icons of the data set.
        how: says how they were drawn, such as ``in black on white``.
        more: names what else the data set has of others.
    """
    counts = Counter(icon.set for icon in packed)
    rows = [
        " | ".join(_cell(text) for text in (s.title, s.author, s.licence, counts[s.name], s.url))
        for s in sorted(sets, key=lambda icons: icons.name)
        if counts[s.name]
    ]
    head = _HEAD.format(how=how, more=f" {more}" if more else "")
    return (head + "".join(f"| {row} |\n" for row in rows)).encode()


def _cell(text: object) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")
