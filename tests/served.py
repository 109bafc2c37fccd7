"""A server that runs in a thread."""

import threading
from contextlib import contextmanager

import uvicorn

from serving.opening import listening
from serving.process import server_config


@contextmanager
def serving(app, limits):
    """The port of a server of `app`."""
    with listening("127.0.0.1", 0) as bound:
        server = uvicorn.Server(server_config(app, limits))
        thread = threading.Thread(target=server.run, args=[[bound]])
        thread.start()
        try:
            yield bound.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()
