"""A connection of a client that has to ask for something, or gives its place to others."""

import asyncio

from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

# Seconds after which a connection without a request is closed, those with half of its head too.
PATIENCE = 10.0
# Seconds after which a connection is cut whose client has not read 64 kB of what waits for it.
READING_PATIENCE = 60.0


class Connection(H11Protocol):
    """A connection that is closed once no request has been answered on it for `PATIENCE` seconds.

    A server has so many connections and no more, and whoever has no token could hold them all. One
    is closed as well whose client does not read its answer. To close waits until what is written
    has been read, so what is closed is cut, at last. Between two requests of a client that is at
    work it is never closed: the second would be lost, and no client repeats a POST.
    """

    _cut: asyncio.TimerHandle | None = None
    _look: asyncio.TimerHandle

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self._look = self.loop.call_later(PATIENCE, self._close_idle)

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look.cancel()
        self._look = self.loop.call_later(PATIENCE, self._close_idle)

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self._cut = self.loop.call_later(READING_PATIENCE, self.transport.abort)

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        if self._cut:
            self._cut.cancel()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._look.cancel()
        if self._cut:
            self._cut.cancel()

    def _close_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        if self.transport.is_closing():
            self._look = self.loop.call_later(READING_PATIENCE, self.transport.abort)
        else:
            self._look = self.loop.call_later(PATIENCE, self._close_idle)
