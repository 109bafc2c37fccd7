"""Object stores opened by obstore, with the credentials and the endpoint that fsspec finds.

Ranges are thereby read by the same identity and at the same address as whole files, whatever tells
fsspec of them: the environment, shared configuration, a role, or fsspec's own configuration.
"""

import re
from asyncio import run_coroutine_threadsafe
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from metatrain.storage import files
from metatrain.storage.files import filesystem_of

if TYPE_CHECKING:  # obstore has these for type checkers only
    from obstore.store import (
        AzureCredential,
        ClientConfig,
        GCSCredential,
        RetryConfig,
        S3Config,
        S3Credential,
    )

# The region in the signature of an address, where it is of version 4 and for S3 itself.
_REGION = re.compile(r"X-Amz-Credential=.*?%2F\d{8}%2F([\w-]+)%2Fs3%2Faws4_request")
# botocore renews credentials ten minutes before they expire, and obstore asks for new ones five
# minutes before it has been told that they do.
_GOOD_FOR = timedelta(minutes=9)
_AZURE_SCOPE = "https://storage.azure.com/.default"
# The only retries are those of `metatrain.storage.retry`.
_ONCE: "RetryConfig" = {"max_retries": 0}


@lru_cache(maxsize=64)
def object_store_of(folder: str) -> ObjectStore | None:
    """Open the object store at `folder`, a URL that paths in it start from; threads may share it.

    Returns:
        The store, or None where only fsspec can read `folder`.

    Raises:
        UserError: when fsspec lacks the package for such a URL.
        Exception: when fsspec finds no credentials, or whatever else it says.
    """
    scheme, _, _ = folder.partition("://")
    return _OPENERS[scheme](*filesystem_of(folder)) if scheme in _OPENERS else None


def forget_object_stores() -> None:
    """Open every store anew at the next read, by the environment as it is then."""
    object_store_of.cache_clear()


def _s3(fs: Any, folder: str) -> S3Store | None:
    """Open `folder` of `fs`, a file system of s3fs.

    An address that s3fs signs shows all that s3fs knows of an endpoint: the host, whether the
    bucket belongs to it or to the path, the region, and whether requests are signed at all.
    """
    address, _, signature = fs.sign(f"{folder}/-").partition("?")
    region = _REGION.search(signature)
    if signature and not region:
        return None
    return S3Store(
        fs.split_path(folder)[0],
        config=_s3_encryption(fs),
        aws_endpoint_url_s3=address.removesuffix("/-"),
        virtual_hosted_style_request=True,  # the endpoint has the bucket already
        region=region[1] if region else "us-east-1",
        skip_signature=not signature,
        request_payer=fs.requester_pays,
        s3_express=False,  # which only a variable of obstore could say
        credential_provider=lambda: _s3_credential(fs),
        client_options=_client_options() | _s3_trust(fs),
        retry_config=_ONCE,
    )


def _s3_credential(fs: Any) -> "S3Credential":
    # Those of the client: its session does not know a key that fsspec's configuration has.
    credentials = fs.s3._get_credentials()
    keys = run_coroutine_threadsafe(credentials.get_frozen_credentials(), fs.loop).result()
    return {
        "access_key_id": keys.access_key,
        "secret_access_key": keys.secret_key,
        "token": keys.token,
        "expires_at": datetime.now(UTC) + _GOOD_FOR,
    }


def _s3_encryption(fs: Any) -> "S3Config":
    """Take over a key of the customer's own (SSE-C), which the storage itself does not keep."""
    key = fs.s3_additional_kwargs.get("SSECustomerKey")
    if key is None:
        return {}
    encoded = b64encode(key.encode() if isinstance(key, str) else key).decode()
    return {"server_side_encryption": "sse-c", "sse_customer_key_base64": encoded}


def _s3_trust(fs: Any) -> "ClientConfig":
    """Trust the certificates that botocore trusts: not every system brings some."""
    from botocore.httpsession import get_cert_path

    verify = fs.client_kwargs.get("verify")
    if verify is None:
        verify = fs.session.get_config_variable("ca_bundle") or True
    if verify is False:
        return {"allow_invalid_certificates": True}
    return {"root_certificate": Path(get_cert_path(verify)).read_bytes()}


def _gcs(fs: Any, folder: str) -> GCSStore:
    """Open `folder` of `fs`, a file system of gcsfs."""
    bucket, prefix, _ = fs.split_path(folder)
    return GCSStore(
        bucket,
        prefix=prefix,
        base_url=fs.base.removesuffix("/storage/v1/"),
        skip_signature=fs.credentials.credentials is None,
        credential_provider=lambda: _gcs_credential(fs),
        client_options=_client_options(),
        retry_config=_ONCE,
    )


def _gcs_credential(fs: Any) -> "GCSCredential":
    fs.credentials.maybe_refresh()
    credentials = fs.credentials.credentials
    expiry = credentials.expiry  # in UTC, without saying so
    return {"token": credentials.token, "expires_at": expiry and expiry.replace(tzinfo=UTC)}


def _azure(fs: Any, folder: str) -> AzureStore:
    """Open `folder` of `fs`, a file system of adlfs."""
    container, prefix, _ = fs.split_path(folder)
    account = fs.service_client
    address, _, signature = account.url.partition("?")
    return AzureStore(
        container,
        prefix=prefix,
        account_name=account.account_name,
        endpoint=address.rstrip("/"),
        skip_signature=not (signature or account.credential),
        credential_provider=lambda: _azure_credential(fs, signature),
        client_options=_client_options(),
        retry_config=_ONCE,
    )


def _azure_credential(fs: Any, signature: str) -> "AzureCredential":
    credential = fs.service_client.credential
    if signature:
        return {"sas_token": signature, "expires_at": None}
    if hasattr(credential, "account_key"):
        return {"access_key": credential.account_key, "expires_at": None}
    token = run_coroutine_threadsafe(credential.get_token(_AZURE_SCOPE), fs.loop).result()
    return {"token": token.token, "expires_at": datetime.fromtimestamp(token.expires_on, UTC)}


def _client_options() -> "ClientConfig":
    return {
        "allow_http": True,
        "connect_timeout": timedelta(seconds=files.CONNECT_SECONDS),
        "read_timeout": timedelta(seconds=files.STALL_SECONDS),
        "timeout": timedelta(days=1),  # of a whole answer, which may be slow without a stall
    }


_OPENERS = (
    dict.fromkeys(("s3", "s3a"), _s3)
    | dict.fromkeys(("gs", "gcs"), _gcs)
    | dict.fromkeys(("az", "abfs", "abfss"), _azure)
)
