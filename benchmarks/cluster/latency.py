"""A proxy that delays every request: `python -m benchmarks.cluster.latency PORT SECONDS`.

It is a separate process, so that it takes no time from the interpreter that is measured. It prints
its port and, for every line of its standard input, the requests and bytes that have passed.
"""

import asyncio
import subprocess
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit


class Latency:
    """Running proxy.

    Attributes:
        endpoint: URL of the proxy.
    """

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.endpoint = f"http://127.0.0.1:{self._numbers()[0]}"

    def passed(self) -> list[int]:
        """Return the numbers of requests and of bytes so far."""
        assert self._process.stdin
        print(file=self._process.stdin, flush=True)
        return self._numbers()

    def _numbers(self) -> list[int]:
        assert self._process.stdout
        return [int(number) for number in self._process.stdout.readline().split()]


@contextmanager
def latency(endpoint: str, seconds: float) -> Iterator[Latency]:
    """Run a proxy in front of `endpoint` during the context."""
    port = str(urlsplit(endpoint).port)
    command = [sys.executable, "-m", "benchmarks.cluster.latency", port, str(seconds)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Latency(process)
        finally:
            process.terminate()


_passed = {"requests": 0, "bytes": 0}


async def _pump(reader: StreamReader, writer: StreamWriter, delay: float) -> None:
    """Forward every chunk `delay` seconds late; a request is one chunk."""
    try:
        while data := await reader.read(1 << 20):
            if delay:
                await asyncio.sleep(delay)
                _passed["requests"] += data.startswith((b"GET ", b"HEAD "))
            else:
                _passed["bytes"] += len(data)
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


def _print_counts() -> None:
    if not sys.stdin.readline():
        asyncio.get_running_loop().remove_reader(sys.stdin)
    print(_passed["requests"], _passed["bytes"], flush=True)


async def _serve(upstream: int, delay: float) -> None:
    async def connected(reader: StreamReader, writer: StreamWriter) -> None:
        answers, requests = await asyncio.open_connection("127.0.0.1", upstream, limit=1 << 20)
        await asyncio.gather(_pump(reader, requests, delay), _pump(answers, writer, 0))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 20)
    asyncio.get_running_loop().add_reader(sys.stdin, _print_counts)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
