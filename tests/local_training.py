"""A training run in this process, from its beginning or a state, without its checkpoints."""

from metatrain.data.loader import open_tasks
from metatrain.training.local_run import local_trainer


def train(config, observers=(), state=None, **options):
    """Train to the last step; return the state at the end."""
    source = open_tasks(config.data)
    trainer = local_trainer(config, source, observers, state=state, **options)
    trainer.run()
    return trainer.state()
