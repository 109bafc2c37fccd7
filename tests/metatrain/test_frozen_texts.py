"""Texts through frozen word vectors and frozen encoders of transformers."""

import json

import pytest
import torch
from safetensors.torch import save, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from metatrain.base.errors import UntrustedError, UserError
from metatrain.config import load_config, parse_config
from metatrain.data.examples import Examples
from metatrain.generators.conditions import transformers_text, words
from metatrain.generators.frozen import parse_tensors, pinned
from metatrain.model.build import build_generator, build_theta
from metatrain.model.file import load_model
from metatrain.model.model import Model

WORDS = ["[UNK]", "red", "fox", "hen", "a"]
SIZES = ["data.image_size=8", "generator.width=8", "objective.sampler.steps=2"]


def tokenizer() -> Tokenizer:
    made = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    return made


@pytest.fixture
def table(tmp_path):
    vectors = torch.arange(5 * 6, dtype=torch.float16).view(5, 6) + 1
    save_file({"embedding": vectors}, tmp_path / "table.safetensors")
    tokenizer().save(str(tmp_path / "tokenizer.json"))
    return vectors.float()


def words_config(tmp_path, *further: str):
    place = (
        f"generator.conditions.text={{name: words, path: {tmp_path}/table.safetensors, length: 4}}"
    )
    return pinned(load_config(None, [*SIZES, place, *further]))


def encoder_of(config):
    return build_generator(config).network.encoders.encoders[0]


def test_a_text_is_the_vectors_of_its_words(table, tmp_path):
    encoder = encoder_of(words_config(tmp_path))
    values = encoder.tensor(("red fox", "", "a unicorn", "hen hen hen hen hen hen"))
    assert torch.equal(values[0], torch.cat([table[[1, 2]], torch.zeros(2, 6)]))
    assert not values[1].any()
    assert torch.equal(values[2, :2], table[[4, 0]])
    assert torch.equal(values[3], table[[3] * 4])
    tokens, visible = encoder(values)
    assert tokens.shape == (4, 4, 16)
    assert visible.sum(dim=1).tolist() == [2, 0, 2, 4]


def test_word_vectors_are_no_part_of_theta_and_steer_samples(table, tmp_path):
    config = words_config(tmp_path)
    theta = build_theta(config)
    assert not any(5 in p.shape for n, p in theta.named().items() if ".encoders." in n)
    for parameter in theta.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.manual_seed(0))
    model = Model(config, theta.copy(), step=1)
    fox, hen = (model.sample(2, given={"text": text}) for text in ("red fox", "hen"))
    assert not torch.allclose(fox, hen)
    assert parse_config(json.loads(config.model_dump_json())) == config


def test_another_table_than_was_trained_with_is_refused(table, tmp_path):
    config = words_config(tmp_path)
    theta = build_theta(config)
    Model(config, theta.copy(), step=1).save(tmp_path / "model.safetensors")
    assert load_model(f"{tmp_path}/model.safetensors").step == 1
    save_file({"embedding": 2 * table}, tmp_path / "table.safetensors")
    words.opened_words.cache_clear()  # as another process, which has not read it
    with pytest.raises(UserError, match="was trained with"):
        load_model(f"{tmp_path}/model.safetensors").generator()


def test_a_table_that_nobody_pinned_is_not_read_for_a_stranger(table, tmp_path):
    place = f"generator.conditions.text={{name: words, path: {tmp_path}/table.safetensors}}"
    config = load_config(None, [*SIZES, place])
    Model(config, build_theta(config).copy(), step=1).save(tmp_path / "model.safetensors")
    with pytest.raises(UntrustedError, match=r"table\.safetensors"):
        load_model(f"{tmp_path}/model.safetensors")
    assert load_model(f"{tmp_path}/model.safetensors", trust=True).step == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json is no tokenizer"),
        (lambda f: (f / "table.safetensors").write_bytes(b"junk"), "is no safetensors file"),
        (
            lambda f: save_file({"a": torch.zeros(4, 6)}, f / "table.safetensors"),
            "has 5 words, and the table of .* 4; name the tokenizer of the table",
        ),
        (
            lambda f: save_file({"a": torch.zeros(9)}, f / "table.safetensors"),
            "is no table of word vectors",
        ),
    ],
)
def test_what_is_no_table_is_a_sentence(table, tmp_path, change, sentence):
    change(tmp_path)
    with pytest.raises(UserError, match=sentence):
        build_generator(words_config(tmp_path))


def test_wordllama_that_is_not_installed_is_told(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'metatrain\[words\]'"):
        build_generator(load_config(None, [*SIZES, "generator.conditions={text: words}"]))


def test_a_text_is_the_last_hidden_states_of_an_encoder_of_transformers(tmp_path):
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    bert = BertModel(BertConfig(vocab_size=5, intermediate_size=8, **sizes)).eval()
    bert.save_pretrained(tmp_path)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer(), unk_token="[UNK]")
    fast.save_pretrained(tmp_path)
    place = f"generator.conditions.text={{name: transformers, path: {tmp_path}, length: 3}}"
    config = pinned(load_config(None, [*SIZES, place]))
    assert "model.safetensors" in config.generator.conditions["text"].sha256
    encoder = encoder_of(config)
    values = encoder.tensor(("red fox", "", "a a a a a"))
    with torch.no_grad():
        expected = bert(input_ids=torch.tensor([[1, 2]])).last_hidden_state[0]
    torch.testing.assert_close(values[0, :2], expected)
    assert values.shape == (3, 3, 8)
    assert not values[1].any()
    assert not any("bert" in name for name in dict(encoder.named_parameters()))
    empty = Examples(torch.zeros(0, 1, 8, 8))
    assert build_generator(config).sample(empty, 1, 0, given={"text": ("hen",)}).isfinite().all()
    with torch.device("meta"):
        assert encoder_of(config).out.weight.is_meta
    (tmp_path / "config.json").write_text("{}")
    transformers_text.opened_encoder.cache_clear()
    with pytest.raises(UserError, match="was trained with"):
        build_generator(config)


def test_what_has_no_values_is_read_on_the_cpu_too():
    data = save({"pooled": torch.empty(2, 0)})
    with torch.device("meta"):
        assert parse_tensors(data, "file")["pooled"].device.type == "cpu"
