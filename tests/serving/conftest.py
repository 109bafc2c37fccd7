"""Servers of a small model, and images to adapt it to."""

from pathlib import Path

import pytest
from http_client import BEARER, HOST, TOKEN
from small_models import save
from starlette.testclient import TestClient

from serving.adaptations import Adaptations
from serving.api import Api
from serving.guard import Guard
from serving.limits import Limits
from serving.models import Models
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

    def start(headers=BEARER, **limits):
        limits = Limits(**limits)
        workers.append(worker := Worker(limits.waiting))
        adaptations = Adaptations(tmp_path, limits)
        api = Api(models=models, adaptations=adaptations, worker=worker, limits=limits)
        app = Guard(api.app(), token=TOKEN, cookie="metatrain")
        client = TestClient(app, base_url=HOST, headers=headers, follow_redirects=False)
        clients.append(client.__enter__())
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)
    for worker in workers:
        worker.close()
