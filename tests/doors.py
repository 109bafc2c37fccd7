"""A watcher of what a run opens to other users of the machine."""

import re
import threading
from contextlib import suppress
from pathlib import Path

import psutil

from cluster.ray_internals import TRAIN_WORKER_TITLE

_SESSION = re.compile(r"(/[^\s=:]*)/session_2")


class Watch:
    """Watcher of the processes below another one, from entering to leaving.

    Attributes:
        listening: the addresses where the run's workers listened, by process.
        folders: the folders that Ray was given for its sessions, and whether one above each is for
            this user alone.
    """

    def __init__(self, pid: int) -> None:
        self.listening: dict[int, set[tuple[str, int]]] = {}
        self.folders: dict[Path, bool] = {}
        self._pid, self._ended = pid, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(1.0):
            with suppress(psutil.Error):
                for process in psutil.Process(self._pid).children(recursive=True):
                    with suppress(psutil.Error, OSError):
                        self._look_at(process)

    def _look_at(self, process: psutil.Process) -> None:
        command = " ".join(process.cmdline())
        if match := _SESSION.search(command):
            folder = Path(match[1])
            above = [each.stat() for each in (folder, *folder.parents)]
            self.folders[folder] = any(status.st_mode & 0o077 == 0 for status in above)
        if command.startswith(TRAIN_WORKER_TITLE):
            connections = process.net_connections("inet")
            addresses = {c.laddr for c in connections if c.status == psutil.CONN_LISTEN}
            known = self.listening.setdefault(process.pid, set())
            known |= {(address.ip, address.port) for address in addresses}
