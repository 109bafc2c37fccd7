"""Jobs on a real cluster: from one command to a trained run, whatever a person does meanwhile."""

import io
import json
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
from terminal import Terminal

from cluster.jobs.follow import LogLines, exit_status
from cluster.jobs.preflight import address_of, check_size, connect
from cluster.jobs.submit import submit, training
from metatrain.base.errors import UserError
from metatrain.config import ClusterConfig
from metatrain.model.file import load_model
from metatrain.training.checkpoint import CheckpointStore
from tuning.submit import sweeping

ROOT = Path(__file__).parents[2]
METRICS = ROOT / "k8s" / "overlays" / "serve-metrics"
SUBMIT = [sys.executable, "-m", "cluster", "submit", "my.yaml"]


# Before anything is sent.


def test_a_job_that_could_not_find_its_data_or_its_run_again_is_refused(overrides, tmp_path):
    (tmp_path / "my.yaml").write_text("seed: 0\n")
    file = str(tmp_path / "my.yaml")
    with pytest.raises(UserError, match=r"run.dir is runs, .* an fsspec URL"):
        training(file, [])
    with pytest.raises(UserError, match=r"data.path is data, "):
        training(file, ["run.dir=s3://bucket/runs"])
    (tmp_path / "sweep.yaml").write_text("space: {inner.lr: {choice: [0.1]}}\n")
    with pytest.raises(UserError, match="dir is sweeps, "):
        sweeping(str(tmp_path / "sweep.yaml"), [])


def test_a_sweep_is_known_by_its_name_and_sized_by_its_base(tmp_path):
    (tmp_path / "base.yaml").write_text("data: {path: /data}\ncluster: {workers: 1}\n")
    (tmp_path / "sweep.yaml").write_text(
        f"name: rates\ndir: /sweeps\nbase: {tmp_path}/base.yaml\n"
        "overrides: {meta.batch: 8, cluster.workers: 4}\nspace: {inner.lr: {choice: [0.1]}}\n"
    )
    work = sweeping(
        str(tmp_path / "sweep.yaml"), ["cluster.workers=2", "budget.trials=3", "seed=1"]
    )
    assert (work.name, work.url) == ("rates", "/sweeps/rates")
    assert (work.config.meta.batch, work.config.cluster.workers) == (8, 2)
    assert work.entrypoint.startswith("python -m tuning sweep ")
    assert work.entrypoint.endswith("sweep.yaml cluster.workers=2 budget.trials=3 seed=1")


def test_a_configuration_that_would_not_be_carried_along_is_refused(
    checkout, overrides, tmp_path, monkeypatch
):
    monkeypatch.chdir(checkout)
    (tmp_path / "beside.yaml").write_text("seed: 0\n")
    with pytest.raises(UserError, match=r"beside.yaml is not among the files that the job carries"):
        submit(training("../beside.yaml", overrides), "http://127.0.0.1:1", wait=True)


def test_where_nothing_answers_a_sentence_says_what_to_do():
    with pytest.raises(UserError, match=r"nothing answers at http://127.0.0.1:1 \(Connection ref"):
        connect("http://127.0.0.1:1")
    with pytest.raises(UserError, match="ray://head:10001 is not the address of a Ray dashboard"):
        connect("ray://head:10001")


def test_the_address_is_the_given_one_or_that_of_rays_own_commands(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:8265")
    assert address_of(None) == "http://10.0.0.1:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "https://ray.example/")
    assert address_of(None) == "https://ray.example"
    assert address_of("http://given:8265") == "http://given:8265"


@pytest.fixture
def elsewhere(monkeypatch):
    """What dashboards answer that cannot be had here: of other versions, sizes and kinds."""
    answers = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            known = answers.get(self.path.partition("?")[0])
            self.send_response(200 if known is not None else 404)
            self.end_headers()
            self.wfile.write(json.dumps(known).encode())

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


def test_what_is_no_dashboard_or_of_another_ray_or_python_is_refused_in_a_sentence(elsewhere):
    address, answers = elsewhere
    with pytest.raises(UserError, match="does not answer as a Ray dashboard does"):
        connect(address)
    answers |= versions("2.41.0", "3.11.7")
    with pytest.raises(UserError, match=f"Ray is 2.41.0 at {address} and {ray.__version__} here"):
        connect(address)
    answers |= versions(ray.__version__, "3.8.19")
    with pytest.raises(UserError, match=f"Python is 3.8.19 at {address} .* submit from Python 3.8"):
        connect(address)


def test_workers_must_find_room_on_single_nodes_unless_the_cluster_grows(elsewhere):
    address, answers = elsewhere
    sizes = [{"CPU": 3, "GPU": 2}, {"CPU": 8, "GPU": 1}, {"CPU": 64}]
    nodes = [{"state": "ALIVE", "resources_total": size} for size in sizes]
    nodes.append({"state": "DEAD", "resources_total": {"CPU": 64, "GPU": 64}})
    report = {"nodeTypeMapping": {"ab12": "node_ab12", "cd34": "node_cd34"}}
    answers |= versions(ray.__version__, "{}.{}.{}".format(*sys.version_info))
    answers["/api/v0/nodes"] = {"data": {"result": {"result": nodes}}}
    answers["/api/cluster_status"] = {"data": {"clusterStatus": {"autoscalerReport": report}}}
    client = connect(address)
    gpus = ClusterConfig(workers=3, gpus_per_worker=1)
    assert check_size(client, gpus) is None
    two_cpus = gpus.model_copy(update={"cpus_per_worker": 2})
    with pytest.raises(UserError, match=r"room for 2: 75 CPUs and 3 GPUs on 3 nodes; lower clust"):
        check_size(client, two_cpus)
    assert check_size(client, two_cpus.model_copy(update={"min_workers": 2})) is None
    report["nodeTypeMapping"] = {"10.0.0.1": "ray.worker.default"}
    warning = check_size(client, two_cpus)
    assert warning
    assert warning.endswith("it may grow, and the job will wait for that.")


def test_progress_rewrites_itself_on_a_terminal_and_is_a_log_elsewhere():
    class Screen(io.StringIO):
        def isatty(self):
            return True

    for stream in (Screen(), io.StringIO()):
        lines = LogLines(stream)
        for chunk in ("Training\nstep 1/3 | lo", "ss 9\nstep 2/3\n", "done"):
            lines.feed(chunk)
        lines.close()
        shown = stream.getvalue()
        if stream.isatty():
            last = shown.split("\n")[-2].split("\r")[-1]
            assert (shown.count("\n"), last) == (2, "done")
            assert "step 1/3 | loss 9\r                 \rstep 2/3\r" in shown
        else:
            assert shown == "Training\nstep 1/3 | loss 9\nstep 2/3\ndone\n"


def test_a_jobs_exit_status_is_what_a_shell_would_say():
    assert [exit_status(code) for code in (None, 1, 3, -9)] == [1, 1, 3, 137]


# On a real cluster.


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
    assert f"the token was refused at {jobs_head.dashboard}; set" in wrong
    without = refused(jobs_head, checkout, {"RAY_AUTH_TOKEN": ""})
    assert f"a token is wanted at {jobs_head.dashboard}; set RAY_AUTH_TOKEN" in without
    size = ["cluster.workers=3", "meta.batch=3"]
    small = refused(jobs_head, checkout, {}, *size)
    assert "3 workers of 1 CPUs and 0 GPUs are wanted, and the cluster has room for 2" in small
    gcs = {"RAY_API_SERVER_ADDRESS": f"http://{jobs_head.address}"}
    assert "does not answer as a Ray dashboard does" in refused(jobs_head, checkout, gcs)


def named_metrics():
    """Every metric that the dashboard and the alerts name."""
    board = json.loads((METRICS / "dashboard.json").read_text())
    rules = yaml.safe_load((METRICS / "alerts.yaml").read_text())
    expressions = [t["expr"] for panel in board["panels"] for t in panel["targets"]]
    expressions += [v["query"]["query"] for v in board["templating"]["list"] if v["name"] == "run"]
    expressions += [r["expr"] for group in rules["spec"]["groups"] for r in group["rules"]]
    return {name for e in expressions for name in re.findall(r"\bray_\w+", e)}


def scraped(head, run):
    """The metrics that are there, those of ours for `run`."""
    with urllib.request.urlopen(head.metrics) as answer:
        lines = answer.read().decode().splitlines()
    ours = f'run="{run}"'
    return {
        line.partition("{")[0]
        for line in lines
        if line.startswith("ray_") and ("metatrain" not in line.partition("{")[0] or ours in line)
    }


@pytest.fixture
def entrypoint(checkout):
    """The line of the rendered RayJob, and what it names where it names it.

    Where this user may not write there, the line names the checkout's file instead.
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
def test_a_job_is_followed_scraped_stopped_resubmitted_detached_from_and_ends_as_one_run(
    jobs_head, checkout, entrypoint, tmp_path
):
    """One run, four jobs: what Kubernetes would run, by Ray's own command, and ours thrice."""
    plain = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--working-dir", "."]
    begun = yaml.safe_load((checkout / "my.yaml").read_text())
    begun["meta"]["steps"] = 10
    (checkout / "run.yaml").write_text(yaml.safe_dump(begun))
    plain += ["--", *entrypoint]
    ray_s_own = Command(plain, jobs_head, checkout, RAY_AUTH_MODE="token")
    assert ray_s_own.wait() == 0, ray_s_own.output
    assert "step 10/10" in ray_s_own.output

    endless = [*SUBMIT, "meta.steps=100000", "--wait"]
    person = Terminal(endless, cwd=checkout, env=jobs_head.environment)
    person.until("Job small-1 works on").until("from step 10 of 100,000").until("\rstep ")
    again = Command([*SUBMIT, "meta.steps=100000"], jobs_head, checkout)
    assert again.wait() == 0, again.output
    assert f"Job small-1 works on {tmp_path}/runs/small already." in again.output
    assert f"ray job stop small-1 --address {jobs_head.dashboard}" in again.output
    with_other_settings = refused(jobs_head, checkout, {}, "meta.steps=50")
    assert "job small-1 works on" in with_other_settings
    while named_metrics() - scraped(jobs_head, "small"):
        person.read_on()  # or, where the run ends without them, fail
    person.press("\x03")
    person.until("Detach from job small-1, or stop it?").press("s\n")
    assert person.wait() == 130, person.seen
    assert "job small-1 is stopped." in person.seen

    # Its workers may yet complete a checkpoint, or leave one that is none.
    saved = CheckpointStore(f"{tmp_path}/runs/small").steps()[-1]
    last = [*SUBMIT, f"meta.steps={saved + 40}", "--wait"]
    script = Command(last, jobs_head, checkout).until("Job small-2 works on")
    script.process.send_signal(2)
    assert script.wait() == 130
    assert "job small-2 goes on without you" in script.output
    follower = Command(last, jobs_head, checkout)
    assert follower.wait() == 0, follower.output
    assert f"Job small-2 works on {tmp_path}/runs/small already." in follower.output
    resumed = re.search(r"from step ([\d,]+) of", follower.output)[1]
    assert int(resumed.replace(",", "")) >= saved > 10
    assert load_model(f"{tmp_path}/runs/small").step == saved + 40
    assert jobs_head.token not in again.output + script.output + follower.output + person.seen


def test_a_job_that_fails_says_why_and_its_status_is_the_commands(jobs_head, checkout, tmp_path):
    job = Command([*SUBMIT, f"data.path={tmp_path}", "--wait"], jobs_head, checkout)
    assert job.wait() == 1
    assert "is not a packed data set" in job.output
    assert re.search(r"job small-\d failed \(exit status 1\); mended, the same", job.output)
