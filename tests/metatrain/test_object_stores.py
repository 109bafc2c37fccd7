"""Ranges in object stores: read where, and as whom, fsspec is told to read."""

import json
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from botocore.exceptions import NoCredentialsError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fsspec.config import conf
from object_storage import forget_connections
from range_server import DATA, Get, RangeServer, range_server

from metatrain.storage import object_stores
from metatrain.storage.files import write_file
from metatrain.storage.object_stores import object_store_of
from metatrain.storage.ranges import read_range

ACCOUNT_KEY = "a2V5"


def is_read(url: str) -> bool:
    return read_range(url, 100, 1500) == DATA[100:1500]


@pytest.fixture
def url(s3) -> str:
    """A file in the bucket."""
    write_file(f"{s3}/data", DATA)
    return f"{s3}/data"


@pytest.fixture
def unset(url, monkeypatch) -> None:
    """An environment that says nothing of the server any more."""
    for name in ("ENDPOINT_URL", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "DEFAULT_REGION"):
        monkeypatch.delenv(f"AWS_{name}")
    monkeypatch.setitem(conf, "s3", {})
    forget_connections()


@pytest.fixture
def keys(s3_server) -> dict[str, str]:
    return {
        name.removeprefix("AWS_").lower(): value for name, value in s3_server.environment.items()
    }


@pytest.fixture
def server() -> Iterator[RangeServer]:
    with range_server() as server:
        yield server


# Where credentials and the endpoint come from


def test_a_profile_in_shared_files_says_all(url, unset, keys, monkeypatch, tmp_path):
    config, credentials = tmp_path / "config", tmp_path / "credentials"
    config.write_text(
        f"[profile lab]\nendpoint_url = {keys['endpoint_url']}\nregion = eu-north-1\n"
    )
    credentials.write_text(
        f"[lab]\naws_access_key_id = {keys['access_key_id']}\n"
        f"aws_secret_access_key = {keys['secret_access_key']}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert is_read(url)
    assert object_store_of(url.rpartition("/")[0]).config["region"] == "eu-north-1"


def test_fsspec_s_configuration_says_all(url, unset, keys, monkeypatch):
    monkeypatch.setitem(
        conf,
        "s3",
        {
            "key": keys["access_key_id"],
            "secret": keys["secret_access_key"],
            "endpoint_url": keys["endpoint_url"],
        },
    )
    assert is_read(url)


def test_keys_of_a_role_are_renewed(url, unset, keys, server, monkeypatch):
    # So soon that botocore asks for new ones every time, as obstore then does.
    soon = (datetime.now(UTC) + timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    role = {"AccessKeyId": keys["access_key_id"], "Token": None, "Expiration": soon}
    server.documents["/role"] = role | {"SecretAccessKey": "of another role"}
    monkeypatch.setattr(object_stores, "_GOOD_FOR", timedelta(0))
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server.endpoint}/role")
    monkeypatch.setenv("AWS_ENDPOINT_URL", keys["endpoint_url"])
    with pytest.raises(PermissionError, match="SignatureDoesNotMatch"):
        is_read(url)
    server.documents["/role"] = role | {"SecretAccessKey": keys["secret_access_key"]}
    time.sleep(0.2)  # obstore does not ask twice within a tenth of a second
    assert is_read(url)


def test_no_credentials_are_told_of_at_once(url, unset, keys, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", keys["endpoint_url"])
    with pytest.raises(NoCredentialsError):
        is_read(url)


def test_obstore_s_own_variables_change_nothing(url, monkeypatch):
    for name in ("ENDPOINT", "BUCKET", "TOKEN", "REGION"):
        monkeypatch.setenv(f"AWS_{name}", "http://127.0.0.1:9")
    for name in ("SKIP_SIGNATURE", "VIRTUAL_HOSTED_STYLE_REQUEST", "S3_EXPRESS"):
        monkeypatch.setenv(f"AWS_{name}", "true")
    assert is_read(url)


def test_the_endpoint_of_s3_alone_comes_first(url, keys, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", keys["endpoint_url"])
    forget_connections()
    assert is_read(url)


# What else fsspec may be told


def test_a_key_of_the_customer_s_own_opens_what_it_closed(s3, monkeypatch):
    sealed = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": bytes(range(32))}
    monkeypatch.setitem(conf, "s3", {"s3_additional_kwargs": sealed})
    write_file(f"{s3}/sealed", DATA)
    assert is_read(f"{s3}/sealed")
    monkeypatch.setitem(conf, "s3", {})
    forget_connections()
    with pytest.raises(PermissionError, match=r"\(400\)"):
        is_read(f"{s3}/sealed")


def test_what_obstore_cannot_sign_fsspec_reads(url, monkeypatch):
    monkeypatch.setitem(conf, "s3", {"config_kwargs": {"signature_version": "s3"}})
    forget_connections()
    assert object_store_of(url.rpartition("/")[0]) is None
    assert is_read(url)


def read_from(server: RangeServer, monkeypatch, **options) -> Get:
    monkeypatch.setitem(conf, "s3", {"endpoint_url": server.endpoint} | options)
    forget_connections()
    assert is_read("s3://bucket/folder/data")
    return server.gets[-1]


def test_a_public_bucket_is_read_unsigned(s3, server, monkeypatch):
    assert "authorization" in read_from(server, monkeypatch).headers
    assert "authorization" not in read_from(server, monkeypatch, anon=True).headers


def test_whoever_asks_pays_where_that_is_said(s3, server, monkeypatch):
    assert "x-amz-request-payer" not in read_from(server, monkeypatch).headers
    paid = read_from(server, monkeypatch, requester_pays=True)
    assert paid.headers["x-amz-request-payer"] == "requester"


def test_the_bucket_is_where_it_belongs(s3, server, monkeypatch):
    assert read_from(server, monkeypatch).path == "/bucket/folder/data"
    # No name server knows bucket.127.0.0.1: a proxy need not ask one.
    monkeypatch.setenv("HTTP_PROXY", server.endpoint)
    options = {"config_kwargs": {"s3": {"addressing_style": "virtual"}}}
    store = "http://storage.test"
    asked = read_from(server, monkeypatch, endpoint_url=store, **options)
    assert asked.path == "http://bucket.storage.test/folder/data"


@pytest.mark.parametrize("name", ["ä + %25 & = # ? []{}'~", "two//slashes"])
def test_a_folder_of_any_name_is_read(s3, name):
    write_file(f"{s3}/{name}/data", DATA)
    assert is_read(f"{s3}/{name}/data")


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A certificate of this machine's loopback that nobody vouches for, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    loopback = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(loopback, critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "certificate.pem"
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    file.write_bytes(made.public_bytes(pem) + key.private_bytes(pem, *form))
    return file


@pytest.fixture
def tls_server(certificate) -> Iterator[RangeServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with range_server(context) as server:
        yield server


def test_a_stranger_s_certificate_is_refused(s3, tls_server, monkeypatch):
    with pytest.raises(OSError, match="InvalidCertificate"):
        read_from(tls_server, monkeypatch)


def test_a_bundle_of_one_s_own_is_trusted(s3, tls_server, certificate, monkeypatch):
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    assert read_from(tls_server, monkeypatch)


def test_verification_can_be_switched_off(s3, tls_server, monkeypatch):
    assert read_from(tls_server, monkeypatch, client_kwargs={"verify": False})


def test_a_system_without_certificates_has_those_of_botocore(s3, monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    forget_connections()
    assert object_store_of(f"{s3}/set")


# Other clouds: their servers are not at hand, but what finds their credentials is, if installed


def test_google_s_storage_is_read_with_a_token_of_the_service_account(
    server, monkeypatch, tmp_path
):
    pytest.importorskip("gcsfs")
    key = rsa.generate_private_key(65537, 2048)
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    account = {
        "type": "service_account",
        "client_email": "reader@project",
        "token_uri": f"{server.endpoint}/token",
        "private_key": key.private_bytes(serialization.Encoding.PEM, *form).decode(),
    }
    (tmp_path / "account.json").write_text(json.dumps(account))
    token = {"access_token": "a-token", "expires_in": 3600, "token_type": "Bearer"}
    server.documents["/token"] = token
    options = {"token": str(tmp_path / "account.json"), "endpoint_url": server.endpoint}
    monkeypatch.setitem(conf, "gs", options)
    assert is_read("gs://bucket/a folder/data")
    assert server.gets[-1].headers["authorization"] == "Bearer a-token"
    assert server.gets[-1].path.replace("%2F", "/") == "/bucket/a%20folder/data"


@pytest.mark.parametrize("scheme", ["az", "abfs"])
@pytest.mark.parametrize(
    ("secret", "shown"),
    [(f"AccountKey={ACCOUNT_KEY}", "SharedKey lab:"), ("SharedAccessSignature=sig=a", "sig=a")],
)
def test_azure_s_storage_is_read_by_key_and_by_signature(
    server, monkeypatch, scheme, secret, shown
):
    pytest.importorskip("adlfs")
    endpoint = f"AccountName=lab;BlobEndpoint={server.endpoint}"
    monkeypatch.setitem(conf, scheme, {"connection_string": f"{endpoint};{secret}"})
    object_stores.forget_object_stores()
    assert is_read(f"{scheme}://container/a folder/data")
    asked = server.gets[-1]
    assert asked.path.startswith("/container/a%20folder/data")
    assert shown in asked.path + asked.headers.get("authorization", "")
