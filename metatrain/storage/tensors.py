"""Tensors and their metadata in safetensors files, read with a sentence for every fault."""

import json


def read_metadata(data: bytes) -> dict[str, str]:
    """The metadata of a safetensors file, which `safetensors.torch.load` drops.

    Raises:
        ValueError: when its header is not JSON.
    """
    # Eight bytes of length, then the header.
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header.get("__metadata__", {})
