"""Settings of serving from a cluster: what is served, and by how many."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ServiceSettings(BaseModel):
    """Settings of a service: the models, the store, and the replicas.

    Attributes:
        models: the models to adapt, as `metatrain.load` takes them.
        store: the folder of the adaptations, at any URL that all nodes reach.
        clients: the file of the clients, where the application is built.
        hosts: names under which clients reach the server, beside those of the machine itself.
        trust: whether to read the places that the models' files name.
        allow_urls: whether to fetch images by URL from public addresses.
        replicas: the most replicas that adapt, and the most that draw.
        least: the least of each, however few requests there are.
        gpus: GPUs of each of them; it computes on a CPU where that is 0.
        cpus: CPUs of each of them.
        loaded: adapted models that a replica which draws has in memory.
        waiting: jobs of all clients at one time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: Annotated[tuple[str, ...], Field(min_length=1)]
    store: str
    clients: Path
    hosts: tuple[str, ...] = ()
    trust: bool = False
    allow_urls: bool = False
    replicas: int = Field(default=2, ge=1)
    least: int = Field(default=1, ge=1)
    gpus: float = Field(default=0, ge=0)
    cpus: float = Field(default=1, gt=0)
    loaded: int = Field(default=256, ge=1)
    waiting: int = Field(default=64, ge=1)

    @model_validator(mode="after")
    def _has_least(self) -> "ServiceSettings":
        if self.least > self.replicas:
            raise ValueError(
                f"least is {self.least}, which is more than the {self.replicas} replicas"
            )
        return self

    @property
    def device(self) -> str:
        """The device of each replica that computes."""
        return "cuda" if self.gpus else "cpu"
