"""Attribution of the icons to their authors, as the licences require."""

from collections import Counter
from collections.abc import Iterable, Sequence

from metatrain.data.packing.icons.choice import Candidate
from metatrain.data.packing.icons.package import PACKAGE, VERSION
from metatrain.data.packing.icons.sets import IconSet

_HEAD = f"""# Attribution

The images of this data set are icons of the sets below, taken from the npm package
`{PACKAGE}` {VERSION}, under the licence that stands beside each. They were drawn in black on white
at one size and in no other way changed. Each row of the data says which icon of which set its image
is, in the column `icon`, and under which licence.

| set | author | licence | icons | from |
|---|---|---|---|---|
"""


def attribution(sets: Iterable[IconSet], packed: Sequence[Candidate]) -> bytes:
    """Return a Markdown file with every set of the `packed` icons, and their number."""
    counts = Counter(candidate.icon.set for candidate in packed)
    rows = [
        " | ".join(_cell(text) for text in (s.title, s.author, s.licence, counts[s.name], s.url))
        for s in sorted(sets, key=lambda icons: icons.name)
        if counts[s.name]
    ]
    return (_HEAD + "".join(f"| {row} |\n" for row in rows)).encode()


def _cell(text: object) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")
