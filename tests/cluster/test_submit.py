"""Jobs on a real cluster, from one command to a trained run, with interruptions by the user."""

import io
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import ray
import yaml
from job import Command
from ray_head import starting_head
from terminal import Terminal

from cluster.addresses import address_to_join, dashboard_address
from cluster.commands import DOCTOR, TRAIN
from cluster.jobs import preflight
from cluster.jobs.follow import LogLines, exit_status
from cluster.jobs.preflight import check_capacity, connect
from cluster.jobs.submit import submit, training_job
from metatrain.base.errors import UserError
from metatrain.cli.command import run
from metatrain.config import ClusterConfig
from metatrain.model.file import load_model
from metatrain.training.checkpoint import CheckpointStore
from tuning.submit import sweep_job

ROOT = Path(__file__).parents[2]
METRICS = ROOT / "k8s" / "overlays" / "serve-metrics"
SUBMIT = [sys.executable, "-m", "cluster", "submit", "my.yaml"]


# Checks before anything is sent.


def test_a_job_with_relative_paths_is_refused(overrides, tmp_path):
    (tmp_path / "my.yaml").write_text("seed: 0\n")
    file = str(tmp_path / "my.yaml")
    with pytest.raises(UserError, match=r"run.dir is runs, .* an fsspec URL"):
        training_job(file, [])
    with pytest.raises(UserError, match=r"data.path is data, "):
        training_job(file, ["run.dir=s3://bucket/runs"])
    (tmp_path / "sweep.yaml").write_text("space: {inner.lr: {choice: [0.1]}}\n")
    with pytest.raises(UserError, match="dir is sweeps, "):
        sweep_job(str(tmp_path / "sweep.yaml"), [])


def test_a_sweeps_job_has_its_name_and_the_size_of_its_base(tmp_path):
    (tmp_path / "base.yaml").write_text("data: {path: /data}\ncluster: {workers: 1}\n")
    (tmp_path / "sweep.yaml").write_text(
        f"name: rates\ndir: /sweeps\nbase: {tmp_path}/base.yaml\n"
        "overrides: {meta.batch: 8, cluster.workers: 4}\nspace: {inner.lr: {choice: [0.1]}}\n"
    )
    job = sweep_job(
        str(tmp_path / "sweep.yaml"), ["cluster.workers=2", "budget.trials=3", "seed=1"]
    )
    assert (job.name, job.url) == ("rates", "/sweeps/rates")
    assert (job.config.meta.batch, job.config.cluster.workers) == (8, 2)
    assert job.entrypoint.startswith("python -m tuning sweep ")
    assert job.entrypoint.endswith("sweep.yaml cluster.workers=2 budget.trials=3 seed=1")


def test_a_configuration_that_would_not_be_uploaded_is_refused(
    checkout, overrides, tmp_path, monkeypatch
):
    monkeypatch.chdir(checkout)
    (tmp_path / "beside.yaml").write_text("seed: 0\n")
    with pytest.raises(UserError, match=r"beside.yaml is not among the files that the job uploads"):
        submit(training_job("../beside.yaml", overrides), "http://127.0.0.1:1", wait=True)


def test_an_address_without_a_dashboard_is_refused_in_a_sentence(monkeypatch, capsys):
    monkeypatch.setattr(preflight, "_START_SECONDS", 1.5)
    with pytest.raises(UserError, match=r"nothing answers at http://127.0.0.1:1 \(Connection ref"):
        connect("http://127.0.0.1:1")
    [line] = capsys.readouterr().out.splitlines()
    assert "http://127.0.0.1:1 does not answer yet; waiting up to 1.5 s" in line


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("ray://head:10001", "not the address of a Ray dashboard; give --address http://head:8265"),
        ("10.0.0.1:6379", "jobs go to its dashboard; give --address http://10.0.0.1:8265."),
    ],
)
def test_an_address_for_something_else_is_refused_with_the_right_one(
    address, sentence, monkeypatch
):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", address)
    for given in (address, None):
        with pytest.raises(UserError) as error:
            dashboard_address(given)
        assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("http://127.0.0.1:8265", "a dashboard, which takes jobs; to join the cluster, set it to "),
        ("ray://head:10001", "the address for Ray Client, which cannot train; on a node of the c"),
    ],
)
@pytest.mark.parametrize("command", ["train", "doctor"])
def test_a_cluster_to_join_has_no_address_of_http_or_ray_client(
    command, address, sentence, overrides, monkeypatch, capsys
):
    monkeypatch.setenv("RAY_ADDRESS", address)
    commands = {"train": TRAIN, "doctor": DOCTOR}
    assert run("metatrain", commands, [command, *overrides]) == 1
    error = capsys.readouterr().err
    assert f"RAY_ADDRESS is {address}, {sentence}" in error
    assert re.search(r"(127\.0\.0\.1|head):6379", error)


def test_addresses_that_name_no_host_are_this_machines(monkeypatch):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    for address, joined in (("", None), ("local", None), ("auto", "auto")):
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert dashboard_address(None) == "http://127.0.0.1:8265"
        assert address_to_join() == joined


def test_a_folder_whose_name_is_too_long_for_sockets_is_named(tmp_path):
    long = tmp_path / ("x" * 60)
    long.mkdir()
    command = [sys.executable, "-c", "from cluster.run.ray_cluster import ray_connection\n"]
    command[-1] += "with ray_connection(cpus=1): pass"
    process = subprocess.run(
        command, env=os.environ | {"TMPDIR": str(long)}, capture_output=True, text=True
    )
    last = process.stderr.strip().splitlines()[-1]
    assert f"its sockets in {long} are too long for the system; set TMPDIR to a shorter" in last


def test_the_address_is_the_argument_or_that_of_rays_own_commands(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:8265")
    assert dashboard_address(None) == "http://10.0.0.1:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "https://ray.example/")
    assert dashboard_address(None) == "https://ray.example"
    assert dashboard_address("http://argument:8265") == "http://argument:8265"


@pytest.fixture
def fake_dashboard(monkeypatch):
    """Serve answers of dashboards that cannot run here, of other versions and sizes."""
    answers = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            answer = answers.get(self.path.partition("?")[0])
            self.send_response(200 if answer is not None else 404)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", address)
        yield address, answers
        server.shutdown()


def versions(ray_version, python_version):
    return {
        "/api/version": {"ray_version": ray_version},
        "/api/v0/cluster_metadata": {
            "data": {"rayVersion": ray_version, "pythonVersion": python_version}
        },
    }


def test_no_dashboard_and_another_ray_or_python_are_refused_in_a_sentence(fake_dashboard):
    address, answers = fake_dashboard
    with pytest.raises(UserError, match="does not respond as a Ray dashboard"):
        connect(address)
    answers |= versions("2.41.0", "3.11.7")
    with pytest.raises(UserError, match=f"{address} runs Ray 2.41.0, .* has Ray {ray.__version__}"):
        connect(address)
    answers |= versions(ray.__version__, "3.8.19")
    with pytest.raises(UserError, match=f"{address} runs Python 3.8.19.* from Python 3.8,"):
        connect(address)


def test_workers_must_fit_on_single_nodes_unless_the_cluster_grows(fake_dashboard):
    address, answers = fake_dashboard
    sizes = [{"CPU": 3, "GPU": 2}, {"CPU": 8, "GPU": 1}, {"CPU": 64}]
    nodes = [{"state": "ALIVE", "resources_total": size} for size in sizes]
    nodes.append({"state": "DEAD", "resources_total": {"CPU": 64, "GPU": 64}})
    report = {"nodeTypeMapping": {"ab12": "node_ab12", "cd34": "node_cd34"}}
    answers |= versions(ray.__version__, "{}.{}.{}".format(*sys.version_info))
    answers["/api/v0/nodes"] = {"data": {"result": {"result": nodes}}}
    answers["/api/cluster_status"] = {"data": {"clusterStatus": {"autoscalerReport": report}}}
    client = connect(address)
    gpus = ClusterConfig(workers=3, gpus_per_worker=1)
    assert check_capacity(client, gpus) is None
    two_cpus = gpus.model_copy(update={"cpus_per_worker": 2})
    sentence = (
        "2 fit on the cluster's 3 nodes of 75 CPUs and 3 GPUs in total; lower cluster.workers"
    )
    with pytest.raises(UserError, match=sentence):
        check_capacity(client, two_cpus)
    assert check_capacity(client, two_cpus.model_copy(update={"min_workers": 2})) is None
    report["nodeTypeMapping"] = {"10.0.0.1": "ray.worker.default"}
    warning = check_capacity(client, two_cpus)
    assert warning
    assert warning.endswith("the job waits for the cluster to grow.")


class Screen(io.StringIO):
    def isatty(self):
        return True


def test_progress_overwrites_itself_on_a_terminal_and_is_a_log_elsewhere():
    for stream in (Screen(), io.StringIO()):
        lines = LogLines(stream)
        for chunk in ("Training\nstep 1/3 | lo", "ss 9\nstep 2/3\n", "done"):
            lines.feed(chunk)
        lines.close()
        output = stream.getvalue()
        if stream.isatty():
            last = output.split("\n")[-2].split("\r")[-1]
            assert (output.count("\n"), last) == (2, "done")
            assert "step 1/3 | loss 9\r                 \rstep 2/3\r" in output
        else:
            assert output == "Training\nstep 1/3 | loss 9\nstep 2/3\ndone\n"


def test_progress_with_its_time_overwrites_itself_too():
    stream = Screen()
    lines = LogLines(stream)
    lines.feed("2026-11-30 04:05:06 step 1/3\n2026-11-30 04:05:07 step 2/3\n")
    lines.feed("2026-11-30 04:05:08 validating step 2: 1/1,024, 0.5/s, ETA 34 min 6 s\n")
    lines.close()
    assert stream.getvalue().count("\n") == 1


def test_a_jobs_exit_status_is_a_shells():
    assert [exit_status(code) for code in (None, 1, 3, -9)] == [1, 1, 3, 137]


# Jobs on a real cluster.


def test_submit_waits_for_a_head_that_is_still_starting(checkout):
    with starting_head() as head:
        process = subprocess.run(
            [sys.executable, "-m", "cluster", "submit", "--address", head.dashboard, "my.yaml"],
            cwd=checkout,
            env=head.environment,
            capture_output=True,
            text=True,
        )
    assert process.returncode == 0, process.stdout + process.stderr
    assert "does not answer yet; waiting up to 30 s for it." in process.stdout
    assert re.search(r"Job \S+-1 works on ", process.stdout)


def refused(head, folder, environment, *further):
    environment = head.environment | environment
    result = subprocess.run(
        [*SUBMIT, *further, "--wait"],
        cwd=folder,
        env={name: value for name, value in environment.items() if value},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1, result.stdout + result.stderr
    assert head.token not in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


def test_a_cluster_refuses_in_a_sentence_and_nothing_is_submitted(jobs_head, checkout):
    wrong = refused(jobs_head, checkout, {"RAY_AUTH_TOKEN": "0" * 64})
    assert f"{jobs_head.dashboard} refused the token; set" in wrong
    without = refused(jobs_head, checkout, {"RAY_AUTH_TOKEN": ""})
    assert f"{jobs_head.dashboard} requires a token; set RAY_AUTH_TOKEN" in without
    size = ["cluster.workers=3", "meta.batch=3"]
    small = refused(jobs_head, checkout, {}, *size)
    assert "needs 3 workers of 1 CPU and 0 GPUs each, and 2 fit on the cluster" in small
    gcs = {"RAY_API_SERVER_ADDRESS": f"http://{jobs_head.address}"}
    assert "does not respond as a Ray dashboard" in refused(jobs_head, checkout, gcs)


def named_metrics():
    """List every metric that the dashboard and the alerts use."""
    board = json.loads((METRICS / "dashboard.json").read_text())
    rules = yaml.safe_load((METRICS / "alerts.yaml").read_text())
    expressions = [t["expr"] for panel in board["panels"] for t in panel["targets"]]
    expressions += [v["query"]["query"] for v in board["templating"]["list"] if v["name"] == "run"]
    expressions += [r["expr"] for group in rules["spec"]["groups"] for r in group["rules"]]
    return {name for e in expressions for name in re.findall(r"\bray_\w+", e)}


def scraped(head, run):
    """List the exported metrics, and of our own only those of `run`."""
    with urllib.request.urlopen(head.metrics) as answer:
        lines = answer.read().decode().splitlines()
    label = f'run="{run}"'
    return {
        line.partition("{")[0]
        for line in lines
        if line.startswith("ray_") and ("metatrain" not in line.partition("{")[0] or label in line)
    }


@pytest.fixture
def entrypoint(checkout):
    """Return the entrypoint of the rendered RayJob, and make the folder that it reads.

    Where this user may not make the folder, the entrypoint reads the checkout's file instead.
    """
    overlay = ROOT / "k8s" / "overlays" / "gpu"
    rendered = subprocess.run(["kubectl", "kustomize", overlay], capture_output=True, text=True)
    assert rendered.returncode == 0, rendered.stderr
    objects = yaml.load_all(rendered.stdout, yaml.CSafeLoader)
    [line] = [o["spec"]["entrypoint"] for o in objects if o["kind"] == "RayJob"]
    folder = Path(line.split()[-1]).parent
    assert Path(line.split()[-1]).name == "run.yaml"
    try:
        folder.symlink_to(checkout)
    except OSError:
        yield shlex.split(line.replace(f"{folder}/", ""))
        return
    yield shlex.split(line)
    folder.unlink()


@pytest.mark.timeout(1200)
def test_a_run_of_four_jobs_is_followed_scraped_stopped_resubmitted_and_detached_from(
    jobs_head, checkout, entrypoint, tmp_path
):
    """The first job is that of Kubernetes, by Ray's own command; the others are by ours."""
    plain = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--working-dir", "."]
    config = yaml.safe_load((checkout / "my.yaml").read_text())
    config["meta"]["steps"] = 10
    (checkout / "run.yaml").write_text(yaml.safe_dump(config))
    plain += ["--", *entrypoint]
    first = Command(plain, jobs_head, checkout, RAY_AUTH_MODE="token")
    assert first.wait() == 0, first.output
    assert "step 10/10" in first.output

    endless = [*SUBMIT, "meta.steps=100000", "--wait"]
    person = Terminal(endless, cwd=checkout, env=jobs_head.environment)
    person.until("Job small-1 works on").until("from step 10 of 100,000").until("/100,000 | loss")
    again = Command([*SUBMIT, "meta.steps=100000"], jobs_head, checkout)
    assert again.wait() == 0, again.output
    assert f"Job small-1 works on {tmp_path}/runs/small already." in again.output
    assert f"ray job stop small-1 --address {jobs_head.dashboard}" in again.output
    with_other_settings = refused(jobs_head, checkout, {}, "meta.steps=50")
    assert "job small-1 works on" in with_other_settings
    while named_metrics() - scraped(jobs_head, "small"):
        person.read_more()  # fails where the run ends without them
    person.press("\x03")
    person.until("Detach from job small-1, or stop it?").press("s\n")
    assert person.wait() == 130, person.output
    assert "job small-1 is stopped." in person.output

    # The workers may still complete a checkpoint, or leave an incomplete one.
    saved = CheckpointStore(f"{tmp_path}/runs/small").steps()[-1]
    last = [*SUBMIT, f"meta.steps={saved + 40}", "--wait"]
    script = Command(last, jobs_head, checkout).until("Job small-2 works on")
    script.process.send_signal(2)
    assert script.wait() == 130
    assert "job small-2 keeps running" in script.output
    follower = Command(last, jobs_head, checkout)
    assert follower.wait() == 0, follower.output
    assert f"Job small-2 works on {tmp_path}/runs/small already." in follower.output
    resumed = re.search(r"from step ([\d,]+) of", follower.output)[1]
    assert int(resumed.replace(",", "")) >= saved > 10
    assert load_model(f"{tmp_path}/runs/small").step == saved + 40
    assert jobs_head.token not in again.output + script.output + follower.output + person.output


def test_a_job_that_fails_reports_why_and_its_status_is_the_commands(jobs_head, checkout, tmp_path):
    job = Command([*SUBMIT, f"data.path={tmp_path}", "--wait"], jobs_head, checkout)
    assert job.wait() == 1
    assert "is not a packed data set" in job.output
    assert re.search(r"job small-\d failed \(exit status 1\); fix the cause", job.output)
