"""Requests made from the OpenAPI document, and answers held against it."""

import httpx2
import pytest
import schemathesis
from fuzzing import TIMEOUT
from http_client import BEARER, TOKEN, adapted
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from served import serving

from serving.accounts import Account
from serving.api import Api
from serving.guard import Guard
from serving.limits import Limits, Quota
from serving.worker import Worker

pytestmark = TIMEOUT
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    ignored_auth,
    unsupported_method,
]
# An endless answer, and one that would take the adaptation of all others away.
LEFT_OUT = [("GET", "/v1/adaptations/{id}/events")]
MODES = st.sampled_from([GenerationMode.POSITIVE, GenerationMode.NEGATIVE])


@pytest.fixture(scope="module")
def server(models, pictures, tmp_path_factory):
    """The URL of a server that draws little at a time, and the id of an adaptation there."""
    limits, worker = Limits(samples=2, steps=2), Worker(16)
    account = Account(tmp_path_factory.mktemp("state"), Quota(adaptations=10))
    api = Api(models=models, accounts=[account], worker=worker, limits=limits)
    app = Guard(api.app(), accounts={TOKEN: account}, requests=limits.requests)
    with serving(app, limits) as port:
        url = f"http://127.0.0.1:{port}"
        with httpx2.Client(base_url=url, headers=BEARER, timeout=60) as client:
            place = adapted(client, pictures, steps="1")
            client.post(f"{place}/samples", json={})
        yield url, place.rpartition("/")[2]
    worker.close()


def test_every_answer_is_as_the_document_says(server):
    url, identifier = server
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    operations = [o for o in operations if (o.method.upper(), o.path) not in LEFT_OUT]
    assert len(operations) > 15
    problems = [problem for o in operations if (problem := _problem(o, identifier))]
    assert not problems, "\n\n".join(problems)


def _problem(operation, identifier):
    """The first answer that is not as the document says."""
    try:
        _fuzz(operation, identifier)
    except FailureGroup as group:
        return f"{operation.label}: {group.exceptions[0]} {group}"
    return None


def _fuzz(operation, identifier):
    @given(st.data())
    @settings(
        max_examples=8,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],
    )
    def fuzz(data):
        case = data.draw(operation.as_strategy(data.draw(MODES)))
        # No one guesses an id; and nobody deletes the adaptation of all examples.
        if "id" in (case.path_parameters or {}) and operation.method.upper() != "DELETE":
            case.path_parameters["id"] = data.draw(
                st.sampled_from([identifier, identifier, case.path_parameters["id"]])
            )
        case.call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"}, checks=CHECKS)

    fuzz()
