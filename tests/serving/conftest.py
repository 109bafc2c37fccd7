"""Servers of a small model, and images to adapt it to."""

from dataclasses import fields
from pathlib import Path

import pytest
from http_client import BEARER, HOST, TOKEN
from small_models import save
from starlette.testclient import TestClient

from serving.accounts import Account
from serving.api import Api
from serving.limits import Limits, Quota
from serving.models import Models
from serving.page_guard import PageGuard
from serving.studio_app import page_routes
from serving.worker import Worker


@pytest.fixture(scope="module")
def models(packed, tmp_path_factory):
    folder = save(packed, tmp_path_factory.mktemp("models") / "small", "run.name=small")
    return Models([folder], "cpu", trust=False, loaded=2)


@pytest.fixture(scope="module")
def pictures(images):
    """Five images of one task, with their names."""
    files = sorted(Path(images, "task-03").glob("*.png"))[:5]
    return [(file.name, file.read_bytes()) for file in files]


@pytest.fixture
def serve(models, tmp_path):
    """Makes clients of servers on one folder."""
    workers, clients = [], []

    def start(headers=BEARER, **bounds):
        quota = {name: bounds[name] for name in bounds if name in Quota.model_fields}
        names = {field.name for field in fields(Limits)}
        limits = Limits(**{name: bounds[name] for name in bounds if name in names})
        workers.append(worker := Worker(limits.waiting))
        account = Account(tmp_path, Quota(**quota))
        api = Api(models=models, accounts=[account], worker=worker, limits=limits)
        app = PageGuard(
            api.app(page_routes()),
            accounts={TOKEN: account},
            cookie="metatrain",
            requests=limits.requests,
        )
        client = TestClient(
            app,
            base_url=HOST,
            headers=headers,
            follow_redirects=False,
            raise_server_exceptions=False,
        )
        clients.append(client.__enter__())
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)
    for worker in workers:
        worker.close()
