"""`metatrain font`."""

import argparse
from pathlib import PurePosixPath

from metatrain.base.errors import UserError
from metatrain.base.text import counted
from metatrain.cli.arguments import (
    above_0,
    add_device_argument,
    add_trust_argument,
    positive,
    refuse_missing_model,
    seed,
)
from metatrain.cli.command import Command, show


def _font(arguments: argparse.Namespace) -> None:
    if arguments.model:
        refuse_missing_model(arguments.model)
    from metatrain.data.lettering import LETTERS
    from metatrain.data.pictures import encoded
    from metatrain.model.export.font import completed, font_of, read_letters
    from metatrain.model.file import load_model
    from metatrain.storage.files import write_file

    if not arguments.out.endswith(".otf"):
        raise UserError(f"--out is {arguments.out}; give the name of an .otf file.")
    letters = read_letters(arguments.letters)
    if arguments.model:
        model = load_model(arguments.model, trust=arguments.trust).to(arguments.device)
        options = {name: getattr(arguments, name) for name in ("steps", "lr", "seed")}
        letters = completed(model, letters, arguments.characters or LETTERS, **options)
    elif arguments.characters:
        raise UserError("--characters are drawn by a model; name one by --model.")
    # First, for the letter that no font can be made of is among them.
    if arguments.drawings:
        folder = arguments.drawings.rstrip("/")
        for letter, drawing in letters.items():
            write_file(f"{folder}/U+{ord(letter):04X}.png", encoded(drawing))
    family = arguments.name or PurePosixPath(arguments.out).stem
    write_file(arguments.out, font_of(letters, family))
    show(f"{arguments.out}: {counted(len(letters), 'letter')}")


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("letters", metavar="LETTERS", help="folder of drawings named by letter: A.png, U+0061.png")
    add("--out", required=True, metavar="FILE.otf", help="the font to write")
    add("--model", metavar="RUN", help="draws the missing letters after those given")
    add("--characters", metavar="TEXT", help="what the font is to have (A-Z, a-z, 0-9)")
    add("--drawings", metavar="DIR", help="write all letters there, as LETTERS has them")
    add("--name", help="the font's name (that of the file)")
    add("--steps", type=positive, help="inner steps (the configuration's)")
    add("--lr", type=above_0, help="inner learning rate (the configuration's)")
    add("--seed", type=seed, default=0, help="the same seed, the same letters (0)")
    add_device_argument(parser)
    add_trust_argument(parser)


FONT = Command("Make a font of drawn letters, and of those that a model adds.", _arguments, _font)
