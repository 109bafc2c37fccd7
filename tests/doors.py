"""What a run opens to other users of the machine."""

import threading
from pathlib import Path
from typing import Any

import psutil


class Watch:
    """Watcher of a process and those below it, from entering to leaving.

    Attributes:
        listening: the addresses where its workers listened, by process.
        folders: the folders of Ray that its processes were given, with their modes.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.listening: dict[int, set[Any]] = {}
        self.folders: dict[Path, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.2):
            try:
                family = psutil.Process(self._pid).children(recursive=True)
            except psutil.Error:
                continue
            for process in family:
                try:
                    self._look_at(process)
                except (psutil.Error, OSError):
                    continue

    def _look_at(self, process: psutil.Process) -> None:
        words = process.cmdline()
        for word in words:
            name, _, value = word.partition("=")
            if name in ("--session-dir", "--session_dir", "--temp-dir", "--temp_dir"):
                self.folders[Path(value)] = Path(value).stat().st_mode & 0o777
        for c in process.net_connections("inet"):
            if c.status == psutil.CONN_LISTEN:
                self.listening.setdefault((process.pid, words[0][:40]), set()).add(tuple(c.laddr))
