"""A refusal passes from one process to another, and is the same there."""

import pickle

import pytest

from metatrain.base.errors import MissingStepError, UserError
from serving.limits import RequestError
from serving.on_ray.failures import REFUSALS, Failure, checked, failure_of


@pytest.mark.parametrize(
    "error",
    [RequestError(404, "a sentence."), UserError("one."), MissingStepError("two.", step="adapt")],
    ids=["request", "user", "step"],
)
def test_a_refusal_is_the_same_in_another_process(error):
    value = pickle.loads(pickle.dumps(failure_of(error)))
    assert isinstance(value, Failure)
    with pytest.raises(REFUSALS) as caught:
        checked(value)
    assert str(caught.value) == str(error)
    assert isinstance(caught.value, RequestError) == isinstance(error, RequestError)
    assert not isinstance(error, RequestError) or caught.value.status == error.status


def test_what_is_no_refusal_passes():
    assert checked(3) == 3
