"""Images by URL: from public addresses alone, within bounds of bytes and time."""

import asyncio
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import PurePosixPath
from urllib.parse import SplitResult, urljoin, urlsplit

from metatrain.base.text import printable
from serving.limits import Limits, RequestError
from serving.uploads import File, too_many

_PORTS = {"http": 80, "https": 443}
_REDIRECTS, _MOST_REDIRECTS = (301, 302, 303, 307, 308), 5
_NAME_CHARACTERS = 200
_CHUNK = 64 << 10
# Addresses that Python's lists lack, in some of its versions: of protocols, relays, examples and
# segments of routes, and that of Azure's host, which each of its machines reaches.
_RESERVED = tuple(
    map(
        ip_network,
        ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "3fff::/20", "5f00::/16"),
    )
)

# An IP address and a port to connect to, of a host and a port in a URL.
Resolve = Callable[[str, int], tuple[str, int]]


class Fetcher:
    """Fetches images by URL, a few at a time.

    Args:
        limits: the bounds of a request.
        resolve: resolves the name of a host, once for each connection.
    """

    def __init__(self, limits: Limits, resolve: Resolve | None = None) -> None:
        self._limits, self._resolve = limits, resolve or public_address
        # Threads of their own: a resolver that hangs must hold up nothing else.
        self._threads = ThreadPoolExecutor(4, "fetching")

    async def images(self, urls: Sequence[str], files: Sequence[File]) -> list[File]:
        """Fetch images, each with the name at the end of its URL.

        Args:
            urls: the URLs.
            files: the images that came in the request, which share its bounds.

        Raises:
            RequestError: when there are too many, or one cannot be had from a public address within
                the bounds.
        """
        limits = self._limits
        if not urls:
            return []
        if not limits.urls:
            raise RequestError(422, "this server fetches no images; send the files themselves.")
        if len(urls) > limits.urls:
            raise RequestError(413, f"there are {len(urls)} URLs; give at most {limits.urls}.")
        if len(urls) + len(files) > limits.images:
            raise too_many(limits)
        left = limits.upload_bytes - sum(len(data) for _, data in files)
        deadline, images = time.monotonic() + limits.fetch_seconds, []
        loop = asyncio.get_running_loop()
        for url in urls:
            most = max(0, min(left, limits.image_bytes))
            arguments = (url, most, deadline, self._resolve)
            try:
                async with asyncio.timeout_at(loop.time() + deadline - time.monotonic()):
                    data = await loop.run_in_executor(self._threads, fetch, *arguments)
            except TimeoutError as error:
                raise _refusal(url, f"it took longer than {limits.fetch_seconds:g} s") from error
            images.append((_name(url), data))
            left -= len(data)
        return images


def fetch(url: str, most: int, deadline: float, resolve: Resolve) -> bytes:
    """Return what lies at a URL.

    Args:
        url: of http or https, at the scheme's own port.
        most: bytes that it may have.
        deadline: the end of its time, by `time.monotonic`.
        resolve: see `Fetcher`; asked again after each redirect.

    Raises:
        RequestError: when it cannot be had.
    """
    place = url
    for _ in range(_MOST_REDIRECTS + 1):
        parts = _checked(url, place)
        try:
            with _answered(parts, deadline, resolve) as answer:
                if answer.status not in _REDIRECTS:
                    return _body(url, answer, most)
                place = urljoin(place, answer.getheader("location", ""))
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = "its server does not answer" if time.monotonic() < deadline else "it is slow"
            raise _refusal(url, reason) from error
    raise _refusal(url, f"it leads on more than {_MOST_REDIRECTS} times")


def public_address(host: str, port: int) -> tuple[str, int]:
    """Resolve the name of a host to a public address.

    Whoever connects has to take this very address: another resolution may have another result.

    Raises:
        RequestError: when one of its addresses is of this machine, of a local network, or otherwise
            not public.
    """
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise RequestError(422, f"there is no host {printable(host)}; check the URL.") from error
    addresses = [str(info[4][0]) for info in infos]
    if not addresses or not all(map(is_public, addresses)):
        raise RequestError(
            422, f"{printable(host)} is not a public host; send the files themselves."
        )
    return addresses[0], port


def is_public(address: str) -> bool:
    """Return whether an IP address is one that anybody may reach."""
    ip = ip_address(address)
    inner: IPv4Address | None = None
    if isinstance(ip, IPv6Address):
        if ip.scope_id or ip.is_site_local:
            return False
        inner = ip.ipv4_mapped or ip.sixtofour
    if inner is not None:
        return is_public(str(inner))
    plain = ip.is_global and not ip.is_multicast and not ip.is_reserved
    return plain and not any(ip in network for network in _RESERVED)


def _checked(url: str, place: str) -> SplitResult:
    try:
        parts = urlsplit(place)
        if (parts.port or _PORTS[parts.scheme]) != _PORTS[parts.scheme]:
            raise ValueError("another port")
    except (ValueError, KeyError) as error:
        raise _refusal(url, "only http and https at their own ports are fetched") from error
    if not parts.hostname or parts.username is not None or not place.isascii():
        raise _refusal(url, "it has no plain host, or letters that a URL has to quote")
    if any(character <= " " or character == "\x7f" for character in place):
        raise _refusal(url, "it has spaces or control characters")
    return parts


@contextmanager
def _answered(
    parts: SplitResult, deadline: float, resolve: Resolve
) -> Iterator[http.client.HTTPResponse]:
    """Ask for a URL, and close the connection at the deadline, however its server trickles."""
    host = parts.hostname or ""
    left = deadline - time.monotonic()
    with socket.create_connection(resolve(host, _PORTS[parts.scheme]), max(0.001, left)) as plain:
        sock = plain
        if parts.scheme == "https":
            context = ssl.create_default_context()
            sock = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
        timer = threading.Timer(max(0.0, deadline - time.monotonic()), _cut, [sock])
        timer.start()
        try:
            with sock:
                if isinstance(sock, ssl.SSLSocket):
                    sock.do_handshake()
                connection = http.client.HTTPConnection(parts.netloc)
                connection.sock = sock
                target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                headers = {"Accept": "image/*", "Accept-Encoding": "identity"}
                connection.request("GET", target, headers=headers)
                yield connection.getresponse()
        finally:
            timer.cancel()


def _cut(sock: socket.socket) -> None:
    """Cut a connection, whatever waits for it; not by TLS, whose state its reader has."""
    with suppress(OSError):  # where it is closed already
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _body(url: str, answer: http.client.HTTPResponse, most: int) -> bytes:
    if answer.status != http.HTTPStatus.OK:
        raise _refusal(url, f"its server answered {answer.status}")
    data = bytearray()
    while chunk := answer.read1(_CHUNK):
        data += chunk
        if len(data) > most:
            reason = f"it has more than {most:,} bytes, the most that are left for it"
            raise _refusal(url, reason, "give a smaller image, or fewer")
    if answer.length:  # bytes that are missing
        raise _refusal(url, "its server sent less than it said")
    return bytes(data)


def _name(url: str) -> str:
    parts = urlsplit(url)
    return printable((PurePosixPath(parts.path).name or parts.netloc)[:_NAME_CHARACTERS])


def _refusal(url: str, reason: str, remedy: str = "send its file") -> RequestError:
    return RequestError(
        422, f"{printable(url[:_NAME_CHARACTERS])} cannot be fetched: {reason}; {remedy}."
    )
