"""Training in this process: one worker, no Ray, no DeepSpeed."""

from metatrain.build import build_generator, build_learner
from metatrain.loader import load_episodes, training_sampler
from metatrain.store import EpisodeStore
from metatrain.trainer import Engine, Trainer, first_state


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
    generator = build_generator(config)
    store = EpisodeStore(config.data.path)
    state = state or first_state(generator)
    sampler = training_sampler(store, config)
    episodes = load_episodes(store, sampler, config.data, start=state.step)
    learner, engine = build_learner(config, generator), PlainEngine(state.parameters)
    trainer = Trainer(config, engine, learner, episodes, state, observers, **options)
    trainer.run()
    return trainer.state()
