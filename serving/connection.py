"""A connection of a client that has to ask for something, or gives its place to others."""

import asyncio

from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

# Seconds after which a connection without a request is closed, those with half of its head too.
PATIENCE = 10.0


class Connection(H11Protocol):
    """A connection that is closed while no request is answered on it, once in `PATIENCE` seconds.

    A server has so many connections and no more, and whoever has no token could hold them all.
    """

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self.loop.call_later(PATIENCE, self._close_idle)

    def _close_idle(self) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        else:
            self.loop.call_later(PATIENCE, self._close_idle)
