"""Templates of pages that are one file each: no network, no script, all text escaped."""

import base64
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template

from metatrain.base.text import printable_lines


def page_template(package: str, name: str, filters: Mapping[str, Callable[..., Any]]) -> Template:
    """Load the template `name` of `package`, which may extend `page.html.j2` of this package.

    A variable that the page does not define is an error.

    Args:
        package: the package whose folder `templates` has it.
        name: its file name.
        filters: the filters that it may use, by name.
    """
    # Task names are other people's data: escape everything, whatever the file's ending is.
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("metatrain.report")]),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(name)


def _shown(value: Any) -> Any:
    """Return what is shown of a value: a name may turn the direction of all that follows it."""
    return printable_lines(value) if type(value) is str else value


def data_url(png: bytes) -> str:
    """Encode a PNG file as a URL that contains all of it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
