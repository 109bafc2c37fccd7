"""`metatrain export`: an adapted model as files that other tools load."""

import argparse

from metatrain.base.errors import UserError
from metatrain.base.progress import say
from metatrain.cli.arguments import add_adapted_from_argument, add_trust_argument
from metatrain.cli.command import Command, show

_FORMATS = ("diffusers", "kohya", "peft", "onnx", "web")


def _export(arguments: argparse.Namespace) -> None:
    from metatrain.model.places import adapted_url, refuse_missing

    if arguments.merge and arguments.format != "diffusers":
        raise UserError(
            f"--merge writes a folder of diffusers, and --format is {arguments.format}; leave "
            f"--format out."
        )
    if arguments.int8 and arguments.format not in ("onnx", "web"):
        raise UserError(
            f"--int8 is for networks that onnxruntime runs, and --format is {arguments.format}; "
            f"choose --format onnx or web."
        )
    url = adapted_url(arguments.adapted)
    refuse_missing(url)
    from metatrain.model.export.backbone import export_adapter, export_merged
    from metatrain.model.export.sampling import export_onnx
    from metatrain.model.export.web import export_web
    from metatrain.model.file import load_model

    model = load_model(url, arguments.adapted_from, trust=arguments.trust)
    folder = arguments.out.rstrip("/")
    if arguments.format == "onnx":
        show(export_onnx(model, folder, int8=arguments.int8))
    elif arguments.format == "web":
        show(export_web(model, folder, int8=arguments.int8))
        say(f"To see it: python -m http.server --directory {folder}")
    elif arguments.merge:
        show(export_merged(model, folder))
    else:
        show(export_adapter(model, folder, arguments.format))


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("adapted", metavar="ADAPTED", help="the folder or file that metatrain adapt wrote")
    add("--out", required=True, metavar="DIR", help="folder to write")
    add(
        "--format",
        choices=_FORMATS,
        default="diffusers",
        help="who reads it: tools that load a LoRA (diffusers, kohya for ComfyUI and A1111, "
        "peft), onnxruntime with the whole network (onnx), or a browser (web); diffusers if left "
        "out",
    )
    add("--merge", action="store_true", help="write whole weights in place of a LoRA")
    add("--int8", action="store_true", help="8 bits for onnx and web: smaller files")
    add_adapted_from_argument(parser)
    add_trust_argument(parser)


EXPORT = Command("Write an adapted model as files of other tools.", _arguments, _export)
