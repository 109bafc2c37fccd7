"""Pages that are one file each: no network, no script, and nothing of other people's unescaped."""

import base64
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template


def page_template(package: str, name: str, filters: Mapping[str, Callable[..., Any]]) -> Template:
    """The template `name` of `package`, which may extend `page.html.j2`.

    What it does not know is an error.
    """
    # Task names are other people's data: everything is escaped, whatever the template is called.
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("metatrain.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(name)


def data_url(png: bytes) -> str:
    """A picture as an address that holds all of it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
