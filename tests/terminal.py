"""A command on a terminal of its own, with a person before it who reads and presses keys."""

import fcntl
import os
import pty
import signal
import subprocess
import termios


class Terminal:
    """One process on a pseudo-terminal.

    Args:
        command: what to run.
        options: for `subprocess.Popen`.
    """

    def __init__(self, command, **options):
        self._master, slave = pty.openpty()
        self.seen = ""
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_as_a_shell_starts_it,
            **options,
        )
        os.close(slave)

    def until(self, words):
        """Read on until `words` are shown."""
        while words not in self.seen:
            self.read_on()
        return self

    def read_on(self):
        """Wait for anything that is shown."""
        assert self._read(), f"ended:\n{self.seen}"

    def press(self, keys):
        """Type `keys`; `\\x03` is Ctrl-C."""
        os.write(self._master, keys.encode())

    def wait(self):
        """Read to the end and return the exit status."""
        while self._read():
            pass
        os.close(self._master)
        return self.process.wait()

    def _read(self):
        try:
            data = os.read(self._master, 65536)
        except OSError:  # how Linux tells that nobody holds the other end any more
            return False
        self.seen += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)


def _as_a_shell_starts_it():
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
