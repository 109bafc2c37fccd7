"""Random text encoders of transformers' own classes, as small as they come, and their tokenizer."""

import torch
from transformers import CLIPTextConfig, CLIPTokenizer

ENDS = ("<|startoftext|>", "<|endoftext|>")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), *ENDS]


def encoder(kind, seed):
    torch.manual_seed(seed)
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2}
    ends = {"bos_token_id": len(VOCABULARY) - 2, "eos_token_id": len(VOCABULARY) - 1}
    more = {"num_attention_heads": 2, "vocab_size": len(VOCABULARY), "projection_dim": 8}
    return kind(CLIPTextConfig(**sizes, **ends, **more)).eval()


def tokenizer():
    ids = {token: number for number, token in enumerate(VOCABULARY)}
    return CLIPTokenizer(vocab=ids, merges=[], model_max_length=77)
