"""A proxy that holds back every request: `python -m benchmarks.latency PORT SECONDS`.

A process of its own, so that it takes none of the time of the interpreter that is measured. It
prints the port that it listens on.
"""

import asyncio
import sys
from asyncio import StreamReader, StreamWriter


async def _pump(reader: StreamReader, writer: StreamWriter, delay: float) -> None:
    """Pass on what comes, each piece `delay` seconds late; a request is one piece."""
    try:
        while data := await reader.read(1 << 20):
            if delay:
                await asyncio.sleep(delay)
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def _serve(upstream: int, delay: float) -> None:
    async def connected(reader: StreamReader, writer: StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", upstream, limit=1 << 20)
        await asyncio.gather(_pump(reader, there[1], delay), _pump(there[0], writer, 0))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
