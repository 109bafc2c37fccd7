"""DeepSpeed's settings that decide what it needs: those of the engine, and of plans for it."""

from metatrain.config import Config

# DeepSpeed's own default, of which it makes all at once.
_LARGEST_BUCKET = 500_000_000


def bucket_size(count: int) -> int:
    """Return how many of `count` gradients DeepSpeed has room to reduce at once."""
    return min(count, _LARGEST_BUCKET)


def keeps_bf16(config: Config, *, sharded: bool) -> bool:
    """Tell whether DeepSpeed's weights are bf16, and only their masters float32.

    Args:
        config: the run's configuration.
        sharded: whether the inner loop works on DeepSpeed's own weights.
    """
    return sharded and config.inner.precision == "bf16"
