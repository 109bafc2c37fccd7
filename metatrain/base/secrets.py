"""Secrets inside URLs, which are printed and stored where people do not expect any."""

import re
from urllib.parse import parse_qsl, urlsplit

# Names of parameters that carry a secret, once lower case and without separators: those of signed
# URLs (S3, Google, Azure), and of keys and tokens.
_SECRET = re.compile(
    r".*(signature|credential|token|secret|passw|apikey|accesskey|accountkey).*"
    r"|sig|key|auth|authorization|pwd|pass|jwt|sas"
)


def secret_in(url: str) -> str | None:
    """Name the kind of secret that a URL holds, without telling it; None where there is none.

    Each link of a chain such as `simplecache::s3://...` is looked at.
    """
    for link in url.split("::"):
        try:
            parts = urlsplit(link)
        except ValueError:  # brackets that are no IPv6 address: a path, or nobody's URL
            continue
        if parts.password or (parts.username and parts.scheme in ("http", "https")):
            return "a password or token before its host"
        for name, _ in [*parse_qsl(parts.query, True), *parse_qsl(parts.fragment, True)]:
            if "://" in link and _SECRET.fullmatch(re.sub(r"[^a-z]", "", name.lower())):
                return f"the parameter {name}"
    return None
