"""Recognition of credentials among files, by their names and by their content."""

import re
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

# Patterns of whole relative paths and of their ends, lower case.
_NAMES = {
    "a file of secrets": (".env", ".env.*", "*.env", ".envrc"),
    "a file of logins": (
        *(".netrc", "_netrc", ".pgpass", ".my.cnf", ".git-credentials", ".htpasswd", ".s3cfg"),
        *(".boto", ".npmrc", ".pypirc", ".docker/config.json", ".vault-token", ".databrickscfg"),
    ),
    "a folder of credentials": (
        *(".aws/*", ".ssh/*", ".kube/*", ".azure/*", ".gnupg/*", ".config/gcloud/*", ".kaggle/*"),
    ),
    "a token": (".ray/auth_token", "huggingface/token"),
    "the credentials of a cluster": ("kubeconfig", "*.kubeconfig", "kubeconfig.*"),
    "a private key": (
        *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "id_ecdsa_sk", "id_ed25519_sk"),
        *("*.ppk", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx"),
    ),
}
# Files without values, which say what others have to fill in.
_EXAMPLES = re.compile(r"(^|[._-])(example|sample|template|dist)([._-]|$)")

_PRIVATE_KEY = re.compile(rb"^-----BEGIN (?:[A-Z0-9 ]+ )?PRIVATE KEY-----\s", re.MULTILINE)
# Of accounts of Google, of OAuth clients, and of S3 servers such as `metatrain store start`.
_JSON_SECRET = re.compile(
    rb'"(private_key|client_secret|refresh_token|(aws_)?secret_?access_?key|secret_?key)"'
    rb'\s*:\s*"[^"]',
    re.IGNORECASE,
)
# A profile of the AWS command line, under any name.
_PROFILE = re.compile(rb"^\s*aws_secret_access_key\s*=\s*[\w/+]{40}\s*$", re.MULTILINE)
_SERVICE_ACCOUNT = re.compile(rb'"type"\s*:\s*"(service_account|authorized_user)"')
_CLUSTER = re.compile(rb"^\s*(client-key-data|token|password)\s*:\s*\S", re.MULTILINE)
_CONTENT: dict[str, Callable[[str, bytes], object]] = {
    "a private key": lambda _, content: _PRIVATE_KEY.search(content),
    "a service account": lambda name, content: (
        name.endswith(".json") and _SERVICE_ACCOUNT.search(content)
    ),
    "a file of secret keys": lambda name, content: (
        name.endswith(".json") and _JSON_SECRET.search(content)
    ),
    "a file of logins": lambda _, content: _PROFILE.search(content),
    "the credentials of a cluster": lambda _, content: (
        re.search(rb"^kind:\s*Config\s*$", content, re.MULTILINE) and _CLUSTER.search(content)
    ),
}


def credential_by_name(path: Path) -> str | None:
    """Name the kind of credential that a file of this relative path holds; None if none is known.

    >>> credential_by_name(Path("deploy/.env.production"))
    'a file of secrets'
    """
    whole = path.as_posix().lower()
    for kind, patterns in _NAMES.items():
        matches = (fnmatch(whole, p) or fnmatch(whole, f"*/{p}") for p in patterns)
        if any(matches) and not (kind == "a file of secrets" and _EXAMPLES.search(path.name)):
            return kind
    return None


def credential_by_content(name: str, content: bytes) -> str | None:
    """Name the kind of credential that the content of a file is; None if none is known."""
    kinds = (kind for kind, holds in _CONTENT.items() if holds(name.lower(), content))
    return next(kinds, None)
