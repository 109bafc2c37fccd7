"""Random text encoders of transformers' own classes, as small as they come, and their tokenizer."""

import torch
from transformers import CLIPTextConfig, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

ENDS = ("<|startoftext|>", "<|endoftext|>")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), *ENDS]
_PIECES = ["<pad>", "</s>", "<unk>", "\u2581", *LETTERS]


def encoder(kind, seed):
    torch.manual_seed(seed)
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2}
    ends = {"bos_token_id": len(VOCABULARY) - 2, "eos_token_id": len(VOCABULARY) - 1}
    more = {"num_attention_heads": 2, "vocab_size": len(VOCABULARY), "projection_dim": 8}
    return kind(CLIPTextConfig(**sizes, **ends, **more)).eval()


def tokenizer():
    ids = {token: number for number, token in enumerate(VOCABULARY)}
    return CLIPTokenizer(vocab=ids, merges=[], model_max_length=77)


def t5_encoder(seed, width=12):
    torch.manual_seed(seed)
    sizes = {"d_model": width, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_heads": 2}
    return T5EncoderModel(T5Config(**sizes, vocab_size=len(_PIECES))).eval()


def t5_tokenizer():
    scores = [(piece, -1.0 - i / 100) for i, piece in enumerate(_PIECES)]
    return T5Tokenizer(vocab=scores, extra_ids=0, model_max_length=512)
