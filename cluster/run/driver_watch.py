"""The end of a worker with its driver, however that ends, and the driver's request to leave."""

import os
import time
from dataclasses import dataclass
from threading import Thread

import ray
from ray.exceptions import ActorUnavailableError, RayError

from cluster.run.mailbox import Mailbox
from cluster.run.worker_backend import leave
from metatrain.base.processes import ProcessName
from metatrain.storage.lease import LeaseKey, LostError

_LOOK_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Driver:
    """The process that leads a run, as its workers see it.

    Attributes:
        process: its name.
        mailbox: the mailbox beside it, which Ray ends with it.
        lease: the lease of what it writes.
    """

    process: ProcessName
    mailbox: Mailbox
    lease: LeaseKey

    def check(self) -> None:
        """Return if a worker may still write.

        Raises:
            LostError: when the driver is gone, or another process has taken its lease over.
            UserError: when the storage cannot be reached.
        """
        if self.process.is_alive is False:
            raise LostError("the driver is gone, so its workers write nothing more.")
        self.lease.check()

    def watch(self) -> None:
        """Watch it on a thread: leave when it asks for that, and end at once when it is gone.

        Ray ends the workers of a lost driver too, but later, by a signal that lets them save first.
        """
        Thread(target=self._watch, name="driver watch", daemon=True).start()

    def _watch(self) -> None:
        request = self.mailbox.request_to_leave()
        asked = False
        while self.process.is_alive is not False:
            try:
                if asked:
                    time.sleep(_LOOK_SECONDS)
                    self.mailbox.is_empty()  # raises once it is gone
                elif ray.wait([request], timeout=_LOOK_SECONDS)[0]:
                    ray.get(request)
                    asked = True
                    leave()
            except ActorUnavailableError:  # its node does not answer for a moment
                request = self.mailbox.request_to_leave()
            except RayError:
                break
        os._exit(1)
