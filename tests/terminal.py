"""A command on its own terminal, whose output a test reads and whose keys it presses."""

import fcntl
import os
import pty
import signal
import subprocess
import termios


class Terminal:
    """A process on a pseudo-terminal.

    Args:
        command: the program and its arguments.
        options: passed to `subprocess.Popen`.
    """

    def __init__(self, command, **options):
        self._master, slave = pty.openpty()
        self.output = ""
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_take_terminal,
            **options,
        )
        os.close(slave)

    def until(self, words):
        """Read until the output contains `words`."""
        while words not in self.output:
            self.read_more()
        return self

    def read_more(self):
        """Read at least one more character."""
        assert self._read(), f"ended:\n{self.output}"

    def press(self, keys):
        """Type `keys`; `\\x03` is Ctrl-C."""
        os.write(self._master, keys.encode())

    def wait(self):
        """Read the output to its end, and return the exit status."""
        while self._read():
            pass
        os.close(self._master)
        return self.process.wait()

    def _read(self):
        try:
            data = os.read(self._master, 65536)
        except OSError:  # Linux reports so that the other end is closed
            return False
        self.output += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)


def _take_terminal():
    """Make standard input the controlling terminal, as a shell does."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
