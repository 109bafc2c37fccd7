"""A page, parsed as a browser does."""

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += re.sub(r"\s+", " ", data)

    def check_self_contained(self) -> None:
        """Check that it fetches nothing and runs nothing."""
        assert self.addresses()
        assert all(address.startswith(("data:", "#")) for address in self.addresses())
        assert not re.search(r"url\(|@import", self.text)
        assert not {"script", "iframe", "object", "embed"} & {tag for tag, _ in self.elements}
        assert not any(name.startswith("on") for _, attrs in self.elements for name in attrs)

    def addresses(self) -> list[str]:
        """List all that a browser might fetch."""
        fetching = {"src", "srcset", "href", "xlink:href", "data", "poster", "action", "background"}
        return [
            value for _, attributes in self.elements
            for name, value in attributes.items() if name in fetching
        ]  # fmt: skip
