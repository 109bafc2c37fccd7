"""The deployment of the HTTP API: one replica, which alone writes the store."""

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from metatrain.storage.lease import lease
from serving.accounts import Account
from serving.api import Api
from serving.guard import Guard, host_of
from serving.limits import URLS, Limits, Quota
from serving.models import Models
from serving.on_ray.remote import RemoteComputing
from serving.on_ray.settings import ServiceSettings
from serving.opening import HOSTS
from serving.store import StoreDisk, folder_names
from serving.tokens import NAME, Client
from serving.worker import Worker

# Threads for what refuses nobody: removals, and adaptations that a lost front had accepted.
_MORE_THREADS = 8


class Front:
    """The API to all clients, for one replica at a time.

    It writes each adaptation to the store before it accepts it. When it is lost, the next one
    finds there whatever was accepted, and lets it compute anew.

    Args:
        settings: the settings.
        clients: the clients by name.
        adapter: the deployment that adapts.
        sampler: the deployment that draws.
    """

    async def __init__(
        self,
        settings: ServiceSettings,
        clients: Mapping[str, Client],
        adapter: DeploymentHandle,
        sampler: DeploymentHandle,
    ) -> None:
        self._held = ExitStack()
        limits = Limits(waiting=settings.waiting, urls=URLS if settings.allow_urls else 0)
        self._computing = RemoteComputing(adapter=adapter, sampler=sampler, seconds=limits.seconds)
        self._app = await asyncio.to_thread(self._opened, settings, clients, limits)

    def _opened(
        self, settings: ServiceSettings, clients: Mapping[str, Client], limits: Limits
    ) -> ASGIApp:
        """Read the models and the store, once no other process may write there."""
        models = Models(settings.models, "cpu", trust=settings.trust, loaded=0)
        self._check = self._held.enter_context(lease(settings.store, "serves", wait=True)).check
        worker = Worker(limits.waiting, threads=limits.waiting + _MORE_THREADS)
        self._held.callback(worker.close)
        former = {name: Quota() for name in folder_names(settings.store) if NAME.fullmatch(name)}
        quotas: dict[str, Quota] = {**former, **clients}
        accounts = {
            name: Account(
                Path(name),
                quota,
                disk=StoreDisk(settings.store, quota.disk_bytes, self._check),
                resumes=True,
            )
            for name, quota in quotas.items()
        }
        api = Api(
            models=models,
            accounts=[*accounts.values()],
            worker=worker,
            limits=limits,
            computing=self._computing,
        )
        by_token = {client.token: accounts[name] for name, client in clients.items()}
        hosts = dict.fromkeys((*HOSTS, *map(host_of, settings.hosts)))
        return Guard(api.app(), accounts=by_token, hosts=hosts, requests=limits.requests)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Return the application that answers requests."""
        return self._app

    def check_health(self) -> None:
        """Return if this replica may still write; Serve replaces one that may not.

        Raises:
            LostError: when another process has taken over the store.
        """
        self._check()

    async def stopped(self, key: str) -> bool | None:
        """Tell whether the client of a request wants no further steps; None where nobody waits."""
        return self._computing.stopped(key)

    def __del__(self) -> None:
        """Let another process write the store."""
        self._held.close()
