"""A proxy that holds back every request: `python -m benchmarks.cluster.latency PORT SECONDS`.

A process of its own, so that it takes none of the time of the interpreter that is measured. It
prints the port that it listens on, and for every line that it is given, the requests and the bytes
that have passed.
"""

import asyncio
import subprocess
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit


class Latency:
    """A running proxy.

    Attributes:
        endpoint: its address.
    """

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.endpoint = f"http://127.0.0.1:{self._numbers()[0]}"

    def passed(self) -> list[int]:
        """The requests and the bytes so far."""
        assert self._process.stdin
        print(file=self._process.stdin, flush=True)
        return self._numbers()

    def _numbers(self) -> list[int]:
        assert self._process.stdout
        return [int(number) for number in self._process.stdout.readline().split()]


@contextmanager
def latency(endpoint: str, seconds: float) -> Iterator[Latency]:
    """A proxy before `endpoint` for as long as the context lasts."""
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
    """Pass on what comes, each piece `delay` seconds late; a request is one piece."""
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


def _tell() -> None:
    if not sys.stdin.readline():
        asyncio.get_running_loop().remove_reader(sys.stdin)
    print(_passed["requests"], _passed["bytes"], flush=True)


async def _serve(upstream: int, delay: float) -> None:
    async def connected(reader: StreamReader, writer: StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", upstream, limit=1 << 20)
        await asyncio.gather(_pump(reader, there[1], delay), _pump(there[0], writer, 0))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 20)
    asyncio.get_running_loop().add_reader(sys.stdin, _tell)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
