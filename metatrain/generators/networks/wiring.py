"""The wiring of a network: which axes of its weights are the same channels."""

from torch import nn

# The streams along an axis of a weight, one after the other; none where the axis is no channels.
Streams = tuple[str, ...]

# The sines and then the cosines of `time_embedding`, which the width alone decides.
FREQUENCIES = "frequencies"


class Wiring:
    """The streams of a network: channels that several layers write, read or normalise.

    Taking a channel of a stream away takes it from every weight of these layers (Fang et al. 2023,
    "DepGraph: Towards Any Structural Pruning").

    Args:
        network: the network; streams have names of their own.

    Attributes:
        axes: the streams along the first axes of each weight, by the weight's name.
        heads: into how many equal parts attention divides a stream.
        products: streams of queries and keys, over which attention takes scaled dot products.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self.axes: dict[str, tuple[Streams, ...]] = {}
        self.heads: dict[str, int] = {}
        self.products: set[str] = set()

    def layer(self, name: str, out: Streams, into: Streams = ()) -> None:
        """Add a linear layer, a convolution, or a norm, whose weight has one axis."""
        module = self._network.get_submodule(name)
        for weight, parameter in module.named_parameters(recurse=False):
            self.axes[f"{name}.{weight}"] = (out, into)[: parameter.ndim]

    def film(self, name: str, channels: Streams, embedding: Streams) -> None:
        """Add a `FiLM`: scales, then shifts."""
        self.layer(f"{name}.linear", channels + channels, embedding)

    def block(self, name: str, into: Streams, out: Streams, embedding: Streams) -> None:
        """Add a `ResidualBlock`, with channels between its convolutions that are its own."""
        between = (name,)
        self.layer(f"{name}.norm_in", into)
        self.layer(f"{name}.conv_in", between, into)
        self.layer(f"{name}.norm", between)
        self.film(f"{name}.film", between, embedding)
        self.layer(f"{name}.conv", out, between)
        self.layer(f"{name}.skip", out, into)

    def attention(self, name: str, channels: Streams, token: Streams, heads: int) -> None:
        """Add a `SetAttention`."""
        keys, values = f"{name}.keys", f"{name}.values"
        self.heads |= {keys: heads, values: heads}
        self.products.add(keys)
        self.layer(f"{name}.norm", channels)
        self.layer(f"{name}.query", (keys,), channels)
        self.layer(f"{name}.key_value_self", (keys, values), channels)
        self.layer(f"{name}.key_value_set", (keys, values), token)
        self.layer(f"{name}.out", channels, (values,))
        self.axes[f"{name}.nothing"] = ((), token)
