"""A font of drawn letters, and of those that a model draws after them."""

import io
import re
import unicodedata
from collections.abc import Mapping
from pathlib import PurePosixPath

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.boundsPen import BoundsPen
from fontTools.pens.recordingPen import RecordingPen
from fontTools.pens.t2CharStringPen import T2CharStringPen
from fontTools.pens.transformPen import TransformPen
from PIL import Image, ImageOps

from metatrain.base.errors import UserError
from metatrain.base.text import printable
from metatrain.data.images import BadImage, normalise
from metatrain.data.lettering import BASELINE, EM
from metatrain.data.outlines import trace
from metatrain.data.packing.containers import open_container
from metatrain.data.packing.names import is_image_name
from metatrain.model.given import condition_of_kind
from metatrain.model.model import Model

_UNITS = 1000  # to the em
# White on both sides of a letter, and the width of a blank, in units.
_BEARING, _BLANK = 60, 280
# Drawings are traced at no more pixels than these.
_SIDE = 256

_NAME = re.compile(r"U\+([0-9A-Fa-f]{4,6})")


def read_letters(url: str) -> dict[str, Image.Image]:
    """Read drawings that are named by their letters: A.png, or U+0041.png.

    Args:
        url: a folder or an archive, at a path or any fsspec URL.

    Returns:
        The drawings by letter: grey, square, of at most 256 pixels.

    Raises:
        UserError: when a name is no letter, or a drawing cannot be used.
    """
    files, letters = open_container(url), {}
    for name in sorted(name for name in files.sizes if is_image_name(name)):
        letter = _letter_of(name, url)
        if letter in letters:
            raise UserError(f"{url} has two drawings of '{printable(letter)}'; remove one.")
        try:
            drawing = Image.open(io.BytesIO(normalise(files.read(name)).data)).convert("L")
        except BadImage as error:
            raise UserError(f"{files.place_of(name)} cannot be used: {error}.") from error
        side = min(*drawing.size, _SIDE)
        letters[letter] = ImageOps.fit(drawing, (side, side))
    if not letters:
        raise UserError(f"{url} holds no drawings; put one there for each letter, such as A.png.")
    return letters


def _letter_of(name: str, url: str) -> str:
    stem = unicodedata.normalize("NFC", PurePosixPath(name).stem)
    if match := _NAME.fullmatch(stem):
        code = int(match[1], 16)
        if code <= 0x10FFFF and not 0xD800 <= code < 0xE000:
            return chr(code)
    if len(stem) != 1:
        raise UserError(
            f"the name of {printable(name)} in {url} is no letter; call it by its letter, such as "
            f"A.png, or by its code, such as U+0041.png."
        )
    return stem


def completed(
    model: Model,
    letters: Mapping[str, Image.Image],
    wanted: str,
    *,
    steps: int | None = None,
    lr: float | None = None,
    seed: int = 0,
) -> dict[str, Image.Image]:
    """Adapt a model to drawn letters, and draw those of `wanted` that are missing.

    Args:
        model: was trained with the letter as a text beside the image.
        letters: drawings by letter.
        wanted: characters; blanks, which nobody draws, count for nothing.
        steps: inner steps, `adapt.steps` of the configuration by default.
        lr: inner learning rate, `adapt.lr` by default.
        seed: of the adaptation and the drawings.

    Returns:
        `letters`, and the missing ones.

    Raises:
        UserError: when the model takes no text.
    """
    text = condition_of_kind("text", model.config)
    missing = [c for c in dict.fromkeys(wanted) if c not in letters and not c.isspace()]
    if not missing:
        return dict(letters)
    given = {text: [*letters]}
    adapted = model.adapt([*letters.values()], given=given, steps=steps, lr=lr, seed=seed)
    drawn = adapted.images(len(missing), given={text: missing}, seed=seed)
    return {**letters, **dict(zip(missing, drawn, strict=True))}


def font_of(letters: Mapping[str, Image.Image], family: str) -> bytes:
    """Make an OpenType font of drawn letters, as outlines.

    Args:
        letters: square drawings by letter, black on white, with the em and the baseline of
            `metatrain.data.lettering`.
        family: its name.

    Raises:
        UserError: when a drawing is blank, or the name has no letter or digit of ASCII.
    """
    post_script = re.sub("[^A-Za-z0-9-]", "", family)[:63]
    if not post_script:
        raise UserError(f"'{printable(family)}' names no font; take letters and digits.")
    glyphs = {letter: _glyph(drawing, letter) for letter, drawing in sorted(letters.items())}
    # By code: two characters may share a name that says what they are.
    names = {
        letter: f"uni{c:04X}" if (c := ord(letter)) < 1 << 16 else f"u{c:X}" for letter in glyphs
    }
    blank = {".notdef": (_blank(), _BLANK, 0), "uni0020": (_blank(), _BLANK, 0)}
    drawn = blank | {names[letter]: glyph for letter, glyph in glyphs.items()}
    builder = FontBuilder(_UNITS, isTTF=False)
    builder.setupGlyphOrder([*drawn])
    builder.setupCharacterMap({0x20: "uni0020"} | {ord(c): name for c, name in names.items()})
    builder.setupCFF(post_script, {"FamilyName": family}, {n: g[0] for n, g in drawn.items()}, {})
    builder.setupHorizontalMetrics({name: glyph[1:] for name, glyph in drawn.items()})
    ascent, descent = round(_UNITS * BASELINE / EM), round(_UNITS * (1 - BASELINE) / EM)
    builder.setupHorizontalHeader(ascent=ascent, descent=-descent)
    builder.setupNameTable(
        {"familyName": family, "styleName": "Regular", "fullName": family, "psName": post_script}
    )
    builder.setupOS2(
        sTypoAscender=ascent, sTypoDescender=-descent, usWinAscent=ascent, usWinDescent=descent
    )
    builder.setupPost()
    buffer = io.BytesIO()
    builder.save(buffer)
    return buffer.getvalue()


def _glyph(drawing: Image.Image, letter: str) -> tuple[object, int, int]:
    """Return the outlines of a letter, its width and its left bearing."""
    outlines, bounds = RecordingPen(), BoundsPen(None)
    trace(drawing, outlines)
    outlines.replay(bounds)
    if bounds.bounds is None:
        raise UserError(f"the drawing of '{printable(letter)}' is blank; draw it, or leave it out.")
    left, _, right, _ = bounds.bounds
    scale = _UNITS / (EM * drawing.width)
    width = round(scale * (right - left)) + 2 * _BEARING
    pen = T2CharStringPen(width, None)
    baseline = BASELINE * drawing.height
    place = (scale, 0, 0, -scale, _BEARING - scale * left, scale * baseline)
    outlines.replay(TransformPen(pen, place))
    return pen.getCharString(), width, _BEARING


def _blank() -> object:
    return T2CharStringPen(_BLANK, None).getCharString()
