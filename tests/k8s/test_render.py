"""metatrain k8s render: a run's manifest passes every check that the overlays pass."""

import re
from itertools import product

import pytest
import test_overlays
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from kuberay import objections
from manifests import ROOT, clusters, objects_of, of_kind, pods, ray_pods
from network import End, external, passes
from test_broken import CHECKS

from k8s.commands import K8S
from k8s.render import job_name
from metatrain.cli.command import run
from metatrain.config import parse_config
from serving.on_ray.settings import ServiceSettings
from tuning.config import load_sweep

IMAGE = f"registry.example.com/metatrain@sha256:{64 * 'a'}"
STORED = ["run.dir=s3://bucket/runs", "data.path=s3://bucket/icons"]
RUN = [str(ROOT / "configs/demo.yaml"), *STORED, "cluster.cpus_per_worker=4"]
NODES = ["--workers=4", "--gpus=8"]
DEV = [str(ROOT / "configs/demo.yaml"), *STORED, "--overlay=dev", "--workers=2"]
API_SERVER = "--api-server=192.0.2.7:6443,192.0.2.8:6443"
SERVED = ["store=s3://bucket/adaptations", "--serve", API_SERVER]
SWEEP = """
name: rates
dir: s3://bucket/sweeps
base: {base}
space: {{inner.lr: {{loguniform: [0.0001, 0.01]}}}}
"""


@pytest.fixture
def render(capsys):
    """Run the command, and return its exit status and its output or error."""

    def run_render(*words, images=(IMAGE,)):
        words = ["k8s", "render", *words, *(f"--image={image}" for image in images)]
        status = run("metatrain", {"k8s": K8S}, words)
        printed = capsys.readouterr()
        return status, printed.out if status == 0 else printed.err

    return run_render


@pytest.fixture
def sweep(tmp_path):
    """Return the words of a small sweep, less the address of the API server."""
    (tmp_path / "base.yaml").write_text("data: {path: s3://bucket/x}\n")
    (tmp_path / "sweep.yaml").write_text(SWEEP.format(base=tmp_path / "base.yaml"))
    return [str(tmp_path / "sweep.yaml"), "--overlay=sweep", "--workers=3"]


def rendered(render, *words):
    status, text = render(*words)
    assert status == 0, text
    return [*yaml.load_all(text, yaml.CSafeLoader)]


def assert_passes_every_check(objects):
    for check in CHECKS.values():
        check(objects)


def test_a_runs_manifest_passes_every_check_and_is_sized_by_its_plan(render):
    words = ["run.name=Big_1", "meta.batch=32", "--overlay=spot", "--overlay=kueue"]
    objects = rendered(render, *RUN, *words, *NODES)
    assert_passes_every_check(objects)
    (job,) = of_kind(objects, "RayJob")
    assert job["metadata"]["name"] == job_name("Big_1")
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]
    assert job["spec"]["backoffLimit"] == 10
    worker = next(pod for pod in ray_pods(objects) if pod.role == "worker")
    assert worker.count == 4
    # 8 workers of 4 CPUs, and a CPU for Ray.
    limits = worker.container["resources"]["limits"]
    assert (limits["cpu"], limits["nvidia.com/gpu"]) == ("33", "8")
    config = parse_config(yaml.safe_load(test_overlays.configuration(objects)["run.yaml"]))
    assert (config.cluster.workers, config.cluster.min_workers) == (32, 8)
    assert (config.run.name, config.generator.name) == ("Big_1", "unet")
    assert {IMAGE} == {pod.container["image"] for pod in ray_pods(objects)}


def test_pods_of_two_runs_reach_each_other_only_within_a_run(render):
    words = ["meta.batch=32", "--overlay=dev", "--workers=2"]
    runs = [rendered(render, *RUN, f"run.name={name}", *words) for name in ("one", "two")]
    policies = [*of_kind(runs[0], "NetworkPolicy"), *of_kind(runs[1], "NetworkPolicy")]
    ends = [[End(pod.labels) for pod in pods(run) if pod.role != "store"] for run in runs]
    for one, other in product(range(2), repeat=2):
        for source, target in product(ends[one], ends[other]):
            assert passes(policies, source, target, 29500) == (one == other)


def test_a_run_that_prefetches_more_has_larger_pods(render):
    def memory(*words):
        words = [*STORED, *words, "--overlay=dev", "--workers=2"]
        objects = rendered(render, str(ROOT / "configs/demo.yaml"), *words)
        (worker,) = (pod for pod in ray_pods(objects) if pod.role == "worker")
        return test_overlays.quantity(worker.container["resources"]["limits"]["memory"])

    assert memory("data.prefetch_bytes=9000000000") > memory()


def test_a_sweeps_manifest_passes_every_check_and_holds_the_requested_sweep(render, tmp_path):
    (tmp_path / "base.yaml").write_text("learner: {name: fomaml}\ndata: {path: s3://bucket/x}\n")
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP.format(base=tmp_path / "base.yaml"))
    words = [str(file), "budget.trials=7", "meta.steps=50", "--overlay=dev", "--overlay=sweep"]
    objects = rendered(render, *words, "--workers=3", API_SERVER)
    assert_passes_every_check(objects)
    (cluster,) = clusters(objects)
    assert cluster["workerGroupSpecs"][0]["maxReplicas"] == 3
    data = test_overlays.configuration(objects)
    # The pods read the same files from another folder.
    (tmp_path / "run.yaml").write_text(data["run.yaml"])
    mounted = data["sweep.yaml"].replace("/etc/metatrain", str(tmp_path))
    (tmp_path / "mounted.yaml").write_text(mounted)
    sweep = load_sweep(str(tmp_path / "mounted.yaml"))
    assert (sweep.settings.name, sweep.settings.budget.trials) == ("rates", 7)
    assert (sweep.base.learner.name, sweep.base.meta.steps) == ("fomaml", 50)


def test_a_services_manifest_passes_every_check_and_serves_what_was_asked_for(render, tmp_path):
    file = tmp_path / "service.yaml"
    file.write_text("{name: emoji, models: [emoji], hosts: [models.example.com], replicas: 4}")
    words = [str(file), *SERVED, "--overlay=gpu", "--workers=2", "--gpus=4"]
    objects = rendered(render, *words, "gpus=1")
    assert_passes_every_check(objects)
    (service,) = of_kind(objects, "RayService")
    served = yaml.safe_load(service["spec"]["serveConfigV2"])
    settings = ServiceSettings.model_validate(served["applications"][0]["args"])
    assert (settings.models, settings.store) == (("emoji",), "s3://bucket/adaptations")
    hosts = ("emoji-serve-svc", "emoji-serve-svc.metatrain.svc", "models.example.com")
    assert settings.hosts == hosts
    assert (settings.replicas, settings.gpus) == (4, 1)
    workers = [pod for pod in ray_pods(objects) if pod.role == "worker"]
    assert [pod.count for pod in workers] == [2]
    assert workers[0].container["resources"]["limits"]["nvidia.com/gpu"] == "4"
    assert {IMAGE} == {pod.container["image"] for pod in ray_pods(objects)}
    # The overlay is what the command renders, but for the name and the size.
    (overlay,) = of_kind(objects_of("serve"), "RayService")
    plain = yaml.safe_load(overlay["spec"]["serveConfigV2"])
    served["applications"][0]["args"] = plain["applications"][0]["args"]
    assert served == plain


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["models=[emoji]", "store=/disk"], "store is /disk, a folder that is deleted"),
        (["models=[emoji]"], "store of the service cannot be used"),
        (["models=[]", "store=s3://b/a"], "models of the service cannot be used"),
        (["models=[emoji]", "store=s3://b/a", "replica=3"], "replica of the service"),
        (["models=[emoji]", "store=s3://b/a", "replicas=3"], "need 7 CPUs, and 2 --workers have 4"),
        (["models=[emoji]", "store=s3://b/a", "hosts=a.example"], "hosts of the service cannot be"),
        (["models=[emoji]", "store=s3://b/a", "hosts=7"], "hosts of the service cannot be used"),
        (
            ["models=[emoji]", "store=s3://b/a", "least=3"],
            "metatrain: the service cannot be used: least",
        ),
        (
            ["models=[emoji]", "store=s3://b/a", "replicas=1", "cpus=3", "--workers=4"],
            "a replica of 3 CPUs has no room in a pod of 2",
        ),
        (
            ["models=[emoji]", "store=s3://b/a", "replicas=1", "gpus=1"],
            "need 2 GPUs, and 2 --workers have 0",
        ),
        (["models=[emoji]", "store=s3://b/a", "--overlay=spot"], "takes no overlay with spot"),
        (["models=[emoji]", "store=s3://b/a", "--gpus=1"], "--gpus N and --overlay gpu"),
    ],
)
def test_a_service_that_cannot_run_is_refused_in_a_sentence(render, words, sentence):
    options = ["--serve", "--workers=2", API_SERVER]
    status, output = render(*options, *words)
    assert status == 1
    assert sentence in output
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--overlay=gpu", "--workers=4"], "--gpus N and --overlay gpu"),
        (["--overlay=dev", "--workers=4", "--gpus=8"], "--gpus N and --overlay gpu"),
        (["--overlay=gpus", "--workers=4"], "did you mean 'gpu'?"),
        (["--overlay=interactive", "--workers=4"], "runs nothing"),
        (["--workers=4"], "--overlay is missing"),
        (["--overlay=kueue", "--overlay=sweep", "--workers=4", "--gpus=8"], "Kueue admits gangs"),
        (["run.dir=runs", "--overlay=dev", "--workers=4"], "run.dir is runs, a folder that is del"),
        (["data.path=/d", "--overlay=dev", "--workers=4"], "data.path is /d, a folder that is del"),
        (["--overlay=gpu", "--workers=9", "--gpus=8"], "exceed the 64 GPUs that"),
        (["--overlay=sweep", "--workers=4"], "--api-server ADDRESS:PORT and --overlay sweep"),
        (["--overlay=dev", "--workers=4", API_SERVER], "--api-server ADDRESS:PORT and --overlay"),
        (["--overlay=dev", "--workers=4", "--operator-namespace=Kube"], "Kube cannot be the name"),
    ],
)
def test_a_request_that_cannot_run_is_refused_in_a_sentence(render, words, sentence):
    overrides = [w for w in words if not w.startswith("--")]
    options = [w for w in words if w.startswith("--")]
    status, output = render(*RUN, "meta.batch=160", *overrides, *options)
    assert status == 1
    assert sentence in output


def test_a_run_that_does_not_fit_is_refused_with_a_remedy(render):
    words = [str(ROOT / "configs/demo.yaml"), *STORED, "meta.batch=8", "--overlay=gpu"]
    status, output = render(*words, "--workers=1", "--gpus=8", "--gpu-memory=0.001")
    assert status == 1
    assert "memory is too small" in output


@pytest.mark.parametrize(
    "images",
    [
        ["metatrain:latest"],
        [f"{IMAGE}@sha256:{64 * 'b'}"],
        [IMAGE, f"registry.example.com/other@sha256:{64 * 'b'}"],
        [f"{IMAGE} metatrain"],
        [f"@sha256:{64 * 'a'}"],
    ],
    ids=["none", "two", "two images", "with more", "without a name"],
)
def test_an_image_without_exactly_one_digest_is_refused_in_a_sentence(render, images):
    status, output = render(*DEV, images=images)
    assert status == 1
    assert "is not one image with one digest" in output
    assert output.count("\n") == 1


def test_a_missing_kubectl_is_refused_in_a_sentence(render, monkeypatch):
    monkeypatch.setenv("PATH", "")
    status, output = render(*DEV)
    assert status == 1
    assert "kubectl is not installed" in output


@pytest.mark.parametrize("name", ["n", "on", "null", "1e3", "0x1"])
def test_a_name_that_yaml_reads_as_another_value_is_quoted_everywhere(render, sweep, name):
    for words, file in (
        ([*DEV, f'run.name="{name}"'], "run.yaml"),
        ([*sweep, f'name="{name}"', API_SERVER], "sweep.yaml"),
    ):
        status, text = render(*words)
        assert status == 0, text
        objects = [*yaml.load_all(text, yaml.CSafeLoader)]
        (job,) = of_kind(objects, "RayJob")
        instances = {pod.labels["app.kubernetes.io/instance"] for pod in ray_pods(objects)}
        assert {job["metadata"]["name"], *instances} == {job_name(name)}
        values = yaml.load(test_overlays.configuration(objects)[file], yaml.CSafeLoader)
        assert values.get("run", values)["name"] == name
        # PyYAML reads n and y as texts, and Kubernetes as booleans.
        assert not re.search(rf"(name|instance): {name}( *#.*)?$", text, re.M)


def test_kuberay_and_the_api_server_are_let_through_where_they_are(render, sweep):
    addresses = "--api-server=10.0.0.5:443,172.16.0.0/28:6443,[fd00::1]:6443"
    objects = rendered(render, *sweep, addresses, "--operator-namespace=kuberay")
    head = next(End(pod.labels) for pod in ray_pods(objects) if pod.role == "head")
    for address, port, reached in (
        ("10.0.0.5", 443, True),
        ("10.0.0.5", 6443, False),
        ("10.0.0.6", 443, False),
        ("172.16.0.15", 6443, True),
        ("172.16.0.16", 6443, False),
        ("fd00::1", 6443, True),
    ):
        assert passes(objects, head, external(address), port) == reached, address
    labels = {"app.kubernetes.io/name": "kuberay-operator"}
    assert passes(objects, End(labels, "kuberay"), head, 8265)
    assert not passes(objects, End(labels, "ray-system"), head, 8265)


@pytest.mark.parametrize(
    "addresses",
    [
        *("10.0.0.5", "10.0.0.5:0", "10.0.0.5:65536", "10.0.0.5: 443", "10.0.0.5:https"),
        *("10.0.0.5/8:443", "10.0.0.5:6443,", "kubernetes.default:443"),
    ],
)
def test_an_api_server_without_an_address_and_a_port_is_refused(render, sweep, addresses):
    status, output = render(*sweep, f"--api-server={addresses}")
    assert status == 1
    assert "is not an IP address or a range of them with a port" in output


@settings(max_examples=30)
@given(st.lists(st.text("aB9._-", max_size=60).map("x".__add__), unique=True, max_size=5))
def test_every_run_has_a_different_job_name_that_kuberay_accepts(runs):
    names = [job_name(run) for run in runs]
    assert len(set(names)) == len(runs)
    spec = {"headGroupSpec": {"template": {"spec": {}}}, "workerGroupSpecs": []}
    for name in names:
        job = {"kind": "RayJob", "metadata": {"name": name}, "spec": {"rayClusterSpec": spec}}
        assert not list(objections(job))
        assert re.fullmatch("[a-z0-9-]+", name)
