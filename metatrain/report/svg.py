"""Elements of inline SVG: no script, colours from the page's style sheet.

Every value is escaped: names of tasks and of runs are other people's text.
"""

from collections.abc import Iterable

from markupsafe import Markup

# The mean width of a character at the style sheet's 11 px.
_CHARACTER = 6.3


def drawing(width: float, height: float, *, label: str, parts: Iterable[Markup]) -> Markup:
    """Build a drawing of `parts`; `label` is its text for screen readers."""
    frame = '<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    return Markup(frame).format(width, height, label, Markup().join(parts))


def line(x1: float, y1: float, x2: float, y2: float, *, style: str) -> Markup:
    """Build a straight line; `style` is its CSS class, here and below."""
    element = '<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'
    return Markup(element).format(style, x1, y1, x2, y2)


def polyline(points: Iterable[tuple[float, float]], *, style: str, tooltip: str = "") -> Markup:
    """Build a line through `points`."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    element = '<polyline class="{}" points="{}">{}</polyline>'
    return Markup(element).format(style, path, title(tooltip))


def text(x: float, y: float, content: str, *, anchor: str) -> Markup:
    """Build a text; `anchor` is which end of it lies at (x, y): start, middle or end."""
    element = '<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>'
    return Markup(element).format(x, y, anchor, content)


def width_of(content: str) -> float:
    """Estimate the width of a text in the page's style, rather too large than too small."""
    return _CHARACTER * len(content)


def title(tooltip: str) -> Markup:
    """Build the child that shows `tooltip` where the pointer rests; nothing where it is empty."""
    return Markup("<title>{}</title>").format(tooltip) if tooltip else Markup()


def number(value: float) -> str:
    """Format a number with as few digits as it needs, thousands separators and a true minus."""
    return f"{value:,.10g}".replace("-", "−")
