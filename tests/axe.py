"""Accessibility faults of a page in a browser, by axe-core."""

import re
from functools import cache
from typing import Any

import pytest

from metatrain.base.errors import UserError
from metatrain.data.packing.npm import NpmPackage, members

AXE = NpmPackage(
    name="axe-core",
    version="4.14.1",
    integrity=(
        "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
    ),
    size=708_405,
)
# Faults in words: the rule, and what it is broken by.
_RUN = """async () => {
    const { violations } = await axe.run(document, { resultTypes: ["violations"] });
    return violations
        .filter(({ impact }) => impact === "serious" || impact === "critical")
        .flatMap(({ id, nodes }) => nodes.map((n) => `${id}: ${n.html} ${n.failureSummary}`));
}"""


@cache
def _script() -> str:
    """The script of axe-core; skips the test where it cannot be had."""
    try:
        archive = AXE.fetched()
    except UserError as error:
        pytest.skip(f"needs axe-core: {error}")
    # Read as it comes, since an archive is a stream.
    [script] = [f.read() for _, f in members(archive, re.compile(r"package/axe\.min\.js"), 1 << 21)]
    return script.decode()


def serious_faults(page: Any) -> list[str]:
    """Return the serious and critical faults of a page as it stands, light and dark."""
    # Evaluated by the debugger, for which the page's content policy does not hold.
    page.evaluate(_script())
    faults = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        faults += [f"{scheme}: {fault}" for fault in page.evaluate(_RUN)]
    return faults
