import re
from typing import Literal

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from metatrain.base.errors import UserError
from metatrain.base.section import Section, section_of
from metatrain.config import (
    COMPONENTS,
    Config,
    chosen,
    differences,
    load_config,
    parse_config,
    read_yaml,
    to_yaml,
    with_values,
    written,
)
from metatrain.config.yaml_values import dumped, parse_override
from metatrain.generators.networks.dit import DiTConfig
from metatrain.generators.networks.unet import UNet


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("inner.lr=-1", "inner.lr is -1; allowed is greater than 0."),
        ("inner.lr=fast", 'inner.lr is "fast"; allowed is a number.'),
        ("inner.scope=flim", 'inner.scope is "flim"; write inner.scope.name="flim".'),
        ("inner.stepps=3", "there is no key 'inner.stepps'; did you mean 'inner.steps'?"),
        ("iner.lr=1", "there is no key 'iner'; did you mean 'inner'?"),
        ("zero_stage=2", "there is no key 'zero_stage'; did you mean 'cluster.zero_stage'?"),
        ("learner.name=reptil", 'learner.name is "reptil"; allowed is reptile, joint, mtl'),
        (
            "generator.name=vae",
            'generator.name is "vae"; allowed is unet, dit, resnet_gan, fastgan, ',
        ),
        ("generator.heads=5", "generator.heads is 5, which does not divide the 96 channels"),
        ("generator={name: ensemble, of: {width: 9}}", "generator.of.width is 9; allowed is a mul"),
        ("generator={name: ensemble, of: {heads: 5}}", "generator.of.heads is 5, which does not"),
        (
            "generator={name: mixture, of: {name: ensemble}}",
            'generator.of.name is "ensemble"; allo',
        ),
        (
            "generator={name: mixture, of: {name: dit, dept: 1}}",
            "did you mean 'generator.of.depth'",
        ),
        ("generator.of.width=8", "there is no key 'generator.of'"),
        ("meta.batch=1", "meta.batch is 1 for 2 cluster.workers"),
        ("cluster.inner_loop=sharded", "needs cluster.zero_stage=3, and it is 1"),
        (
            "cluster={zero_stage: 3, inner_loop: sharded} learner.name=maml",
            "learner maml needs Hessian-vector products, which only meta.hvp=difference computes",
        ),
        (
            "cluster={zero_stage: 3, inner_loop: sharded} learner.name=alfa",
            "learner alfa learns its inner rates from whole layers; use cluster.inner_loop=gather",
        ),
        (
            "cluster={zero_stage: 3, inner_loop: sharded} auxiliary.masked=1",
            "auxiliary losses need whole weights",
        ),
        ("cluster={zero_stage: 0, offload: true}", "cluster.offload needs cluster.zero_stage of 1"),
        ("data.tasks.name=clases", 'data.tasks.name is "clases"; allowed is classes'),
        (
            "data.tasks.nam=classes",
            "there is no key 'data.tasks.nam'; did you mean 'data.tasks.name'?",
        ),
        ("run.name=../x", "run.name is"),
        ("data.path=ftp://me:secret@host/x", "data.path is a URL with a password or token before"),
        ("seed=999999999999999999999", "seed is 999999999999999999999; allowed is less than"),
        ("generator.multipliers=[1,-2]", "generator.multipliers.1 is -2; allowed is greater"),
        ("inner.lr", "'inner.lr' is not an override; write key=value"),
        ("inner.lr={", "inner.lr={ cannot be read as YAML: line 1, column 2: expected the node"),
        ("inner.steps=many", 'inner.steps is "many"; allowed is an integer.'),
        (
            "meta.tasks_at_once=all",
            "tasks_at_once is \"all\"; allowed is an integer or 'auto'.",
        ),
        ("inner=3", "inner is 3; allowed is keys with values"),
        ("run.name=2026", "run.name is 2026; allowed is a text, in quotes, as in '\"2026\"'."),
        (
            "generator.multipliers=[]",
            "multipliers is []; allowed is a list of at least 2.",
        ),
        ("inner.learning_rate=1", "no key 'inner.learning_rate'; did you mean 'inner.lr'?"),
        (
            "learning_rate=1",
            "did you mean 'inner.lr' or 'meta.lr' or 'adapt.lr'?",
        ),
        (
            "generator.name=dit generator.multipliers=[1,2]",
            "no key 'generator.multipliers' with generator.name=dit; it belongs to unet, so remove",
        ),
        (
            "data.cache_dir=None",
            "cache_dir=None cannot be read as YAML: None is a text in YAML",
        ),
        ("run.dir=${oc.env:HOME}/runs", "${oc.env:HOME}/runs asks for another value"),
        ('run.dir="${oc.env:HOME}"', "${oc.env:HOME} asks for another value"),
    ],
)
def test_a_bad_value_names_the_key_the_value_and_what_is_allowed(override, sentence):
    with pytest.raises(UserError) as error:
        load_config(None, re.split(r" (?=[a-z]+\.)", override))  # spaces stand in braces too
    assert sentence in str(error.value)


def test_a_file_that_is_missing_or_no_yaml_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing at .*none\.yaml"):
        load_config(str(tmp_path / "none.yaml"))
    (tmp_path / "bad.yaml").write_text("a: [1,")
    with pytest.raises(UserError, match=r"bad\.yaml cannot be read as YAML: line 1, column 7: "):
        load_config(str(tmp_path / "bad.yaml"))
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(UserError, match=r"list\.yaml cannot be read as YAML keys and values"):
        load_config(str(tmp_path / "list.yaml"))


def test_overrides_win_over_the_file(tmp_path):
    (tmp_path / "c.yaml").write_text("inner: {lr: 0.5, steps: 7}\n")
    config = load_config(str(tmp_path / "c.yaml"), ["inner.lr=1e-2", "data.path=s3://bucket/icons"])
    assert (config.inner.lr, config.inner.steps) == (0.01, 7)
    assert config.data.path == "s3://bucket/icons"


@example(lr=1.0, steps=1, scope="all", path="0E0")
@given(
    lr=st.floats(1e-9, 1e3),
    steps=st.integers(1, 100),
    scope=st.sampled_from(["all", "film", "lora"]),
    path=st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1),
)
def test_what_is_printed_is_read_back_the_same(tmp_path_factory, lr, steps, scope, path):
    values = {"inner": {"lr": lr, "steps": steps, "scope": {"name": scope}}, "data": {"path": path}}
    config = parse_config(values)
    if "${" not in path:
        file = tmp_path_factory.mktemp("config") / "printed.yaml"
        for only in (None, chosen(config)):
            file.write_text(to_yaml(config, only))
            assert load_config(str(file)) == config
        file.write_text(dumped(values))
        assert load_config(str(file)) == config


AMBIGUOUS = ["n", "Y", "on", "Off", "no", "yes", "true", "null", "~", "None", "12", "010", "0x1"]
AMBIGUOUS += ["0o7", "0b1", "1e3", ".5", "1:30", "1_000", "2026-01-01", "=", "<<"]


@pytest.mark.parametrize("text", AMBIGUOUS)
def test_a_text_that_any_yaml_reads_as_another_value_is_written_in_quotes(text, tmp_path):
    for line in (dumped({text: [text]}), f"'key': {written([text])}", f"'key': {written(text)}"):
        (tmp_path / "c.yaml").write_text(line)
        ((_, ours),) = read_yaml(str(tmp_path / "c.yaml")).items()
        assert ours == yaml.safe_load(line).popitem()[1]
        assert ours in (text, [text])
        assert line.count(text) == len(re.findall(rf"[\"']{re.escape(text)}[\"']", line))


@example(text="photos #1")
@example(text="a: b, c")
@example(text="*.png")
@given(text=st.text(min_size=1))
def test_a_plain_value_of_an_override_is_kept_whole(text):
    try:
        key, value = parse_override(f"data.path={text}")
    except UserError:
        assert "${" in text or text == "None" or text[0] in "[{\"'"
        return
    assert key == "data.path"
    if isinstance(value, str) and text[0] not in "[{\"'":
        assert value == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(
            ("no", "no"),
            ("1:30", "1:30"),
            ("2026-01-01", "2026-01-01"),
            ("010", 10),
            ("1e-3", 1e-3),
        ),
        *(
            ("true", True),
            ("null", None),
            ("~", None),
            ("[1, a b]", [1, "a b"]),
            ('"None"', "None"),
        ),
    ],
)
def test_values_are_those_of_yaml_1_2(text, value, tmp_path):
    assert parse_override(f"a={text}")[1] == value
    (tmp_path / "c.yaml").write_text(f"a: {text}\n")
    assert read_yaml(str(tmp_path / "c.yaml")) == {"a": value}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("run:\n  dir: ${oc.env:HOME}\n", "line 2, column 8: ${oc.env:HOME} asks for another"),
        ("data: {cache_dir: None}\n", "line 1, column 19: None is a text in YAML; write null"),
        ("seed: 1\nseed: 2\n", "line 2, column 1: the key seed is there twice"),
        ("inner.lr: 1\ninner: {lr: 2}\n", "the key inner.lr is there twice, dotted and nested"),
        ("a: &a [1]\nb: *a\n", "line 2, column 4: aliases are not read"),
        (
            "a: !!python/object/apply:os.system [ls]\n",
            "line 1, column 4: the tag tag:yaml.org,2002:python/object/apply:os.system is not read",
        ),
        ("a: !!timestamp soon\n", "line 1, column 4: the tag tag:yaml.org,2002:timestamp is not"),
        ("a: !!int [1]\n", "line 1, column 4: the tag tag:yaml.org,2002:int is not read"),
        ("!!map [a]\n", "line 1, column 1: the tag tag:yaml.org,2002:map is not read"),
        ("? !!set a\n: 1\n", "line 1, column 3: the tag tag:yaml.org,2002:set is not read"),
        ('a: "\\UFFFFFFFF"\n', "cannot be read as YAML: an escape names no character"),
        ("a: " + "[" * 3000, "nested too deeply"),
        ("inner:\n\tlr: 1\n", "line 2, column 1: found character '\\t'"),
        (b"\xff\xfe", "byte 0 is not UTF-8 text"),
        ("seed: " + "9" * 5000, "cannot be read as YAML: "),
    ],
)
def test_what_a_file_cannot_hold_is_told_with_its_place(text, sentence, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as error:
        load_config(str(file))
    assert sentence in str(error.value)


def test_dotted_keys_of_a_file_are_nested(tmp_path):
    (tmp_path / "c.yaml").write_text("inner.lr: 0.5\ninner: {scope.name: film, steps: 3}\n")
    config = load_config(str(tmp_path / "c.yaml"))
    assert (config.inner.lr, config.inner.scope.name, config.inner.steps) == (0.5, "film", 3)


COMPONENT_CHOICES = [
    f"{section}.name={name}"
    for section, registry in COMPONENTS.items()
    for name in registry
    if "*" not in section and section != "generator.of"
]


@pytest.mark.parametrize("first", ["seed=0", "learner.name=anil", "generator.name=ensemble"])
@pytest.mark.parametrize("choice", COMPONENT_CHOICES)
@pytest.mark.parametrize("whole", [False, True])
def test_a_printed_configuration_takes_every_choice_of_a_component(first, choice, whole, tmp_path):
    """As in `metatrain config > my.yaml; metatrain train my.yaml generator.name=dit`."""
    config = load_config(None, [first])
    file = tmp_path / "my.yaml"
    file.write_text(to_yaml(config, None if whole else chosen(config)))
    try:
        expected = load_config(None, [first, choice])
    except UserError as error:
        with pytest.raises(UserError, match=re.escape(str(error))):
            load_config(str(file), [choice])
        return
    assert load_config(str(file), [choice]) == expected
    key, _, name = choice.partition("=")
    assert with_values(config, {key: name}) == expected


def test_another_component_keeps_what_was_set_by_hand_or_names_it(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text(to_yaml(load_config(None, ["generator.width=32", "generator.heads=2"])))
    chosen = load_config(str(file), ["generator.name=dit"]).generator
    assert chosen == DiTConfig(width=32), "heads is the U-Net's default, and width is not"
    file.write_text(to_yaml(load_config(None, ["generator.multipliers=[1, 3]"])))
    with pytest.raises(UserError) as error:
        load_config(str(file), ["generator.name=dit"])
    assert "there is no key 'generator.multipliers' with generator.name=dit" in str(error.value)
    # What the command line says is kept, though it is the default of the component before.
    both = ["generator.width=48", "generator.name=dit"]
    assert load_config(None, both).generator == DiTConfig(width=48)


def test_adding_a_generator_takes_one_line_and_breaks_no_configuration():
    class Other(Section):
        name: Literal["other"] = "other"
        depth: int = 3

    class Holder(Section):
        generator: section_of({"unet": UNet.Config, "other": Other})

    assert Holder.model_validate({"generator": {"width": 8}}).generator.width == 8
    assert Holder.model_validate({"generator": {"name": "other", "depth": 4}}).generator.depth == 4


def test_every_key_is_documented():
    undocumented = [
        line for line in to_yaml(Config()).splitlines() if ":" in line and "#" not in line
    ]
    sections = [line for line in undocumented if line.endswith(":")]
    assert [line.strip() for line in undocumented if line not in sections] == [
        'name: "classes"',
        'name: "unet"',
        'name: "flow"',
        'name: "identity"',
        'name: "reptile"',
        'name: "all"',
    ]


def test_a_configuration_without_new_keys_is_stored_as_ever():
    # A model's sha256 covers the JSON of its configuration.
    stored = Config().model_dump(mode="json")
    assert list(stored["data"]) == [
        *("path", "image_size", "channels", "shots", "queries", "too_few"),
        *("prefetch_bytes", "cache_dir", "cache_bytes"),
    ]
    assert parse_config(stored) == Config()


def test_what_differs_is_named_with_both_values():
    a, b = load_config(), load_config(None, ["inner.lr=0.5", "meta.batch=8"])
    assert differences(a, b) == {"inner.lr": (a.inner.lr, 0.5), "meta.batch": (2, 8)}


@pytest.mark.parametrize(("learner", "scope"), [("anil", "head"), ("cavia", "context")])
def test_a_learner_defined_by_its_scope_brings_it(learner, scope):
    assert load_config(None, [f"learner.name={learner}"]).inner.scope.name == scope
    with pytest.raises(UserError, match=f"learner {learner} moves the {scope} in its inner loop"):
        load_config(None, [f"learner.name={learner}", "inner.scope.name=film"])


@pytest.mark.parametrize(
    "url",
    [
        "simplecache::s3://me:secret@bucket/x",
        "zip://a.zip::blockcache::https://me:secret@host/a.zip",
        "https://secret@host/x",
        "https://bucket.s3.amazonaws.com/x?X-Amz-Signature=secret&X-Amz-Expires=1",
        "https://a.blob.core.windows.net/x?sv=1&sig=secret",
        "https://storage.googleapis.com/x?GoogleAccessId=a&Signature=secret",
        "filecache::https://host/x?api_key=secret",
        "https://host/x#access_token=secret",
    ],
)
@pytest.mark.parametrize("key", ["run.dir", "data.path", "data.cache_dir", "validation.network"])
def test_no_secret_in_a_url_is_stored_or_told(key, url):
    with pytest.raises(UserError, match=f"{key} is a URL with ") as error:
        load_config(None, [f"{key}={url}"])
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        *("s3://bucket/a@b:c/x", "sftp://me@host/runs", "simplecache::s3://bucket/key=1/x"),
        *("runs/token=3/x?", "https://host/x?versionId=3", "C:\\runs", "http://[x/y"),
    ],
)
def test_a_url_without_a_secret_is_taken(url):
    assert load_config(None, [f"data.path={url}"]).data.path == url


def test_a_mistake_can_be_caught_as_a_value_error():
    with pytest.raises(ValueError, match="allowed is greater than 0"):
        load_config(None, ["inner.lr=-1"])


def test_a_storage_out_of_reach_is_not_called_malformed():
    with pytest.raises(UserError, match="cannot reach nosuch://bucket/"):
        load_config("nosuch://bucket/c.yaml")


def test_a_refused_value_is_shown_as_it_was_written():
    with pytest.raises(UserError, match=r'run\.name is "läuft"; allowed'):
        load_config(None, ["run.name=läuft"])
