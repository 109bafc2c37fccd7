"""Training in this process: one worker, no Ray, no DeepSpeed."""

from metatrain.data.loader import load_episodes, open_tasks
from metatrain.model.build import build_learner, build_theta
from metatrain.training.engine import Engine
from metatrain.training.initial_weights import initial_weights
from metatrain.training.run_data import training_sampler
from metatrain.training.state import first_state
from metatrain.training.trainer import Trainer


class PlainEngine(Engine):
    """One worker, no DeepSpeed: SGD."""

    rank, world = 0, 1

    def __init__(self, parameters):
        self._parameters = {n: p.clone() for n, p in parameters.items()}

    def parameters(self):
        return self._parameters

    def apply(self, gradient, lr):
        for name, p in self._parameters.items():
            p -= lr * gradient[name]

    def mean(self, values):
        return values

    def gather(self, own):
        return own

    def optimizer_state(self):
        return {}


def train(config, observers, state=None, **options):
    """Train from `state`, or from the beginning; returns the state at the end."""
    theta = build_theta(config)
    source = open_tasks(config.data)
    state = state or first_state(initial_weights(config))
    sampler = training_sampler(source, config)
    episodes = load_episodes(source, sampler, start=state.step)
    learner, engine = build_learner(config, theta), PlainEngine(state.parameters)
    trainer = Trainer(config, engine, learner, episodes, state, observers, **options)
    trainer.run()
    return trainer.state()
