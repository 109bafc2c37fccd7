"""Problems of a cluster that the doctor finds before a run fails because of them."""

import re
import subprocess
import sys
from dataclasses import replace

from cluster.doctor.checks import CHECKS
from cluster.doctor.examination import Examination, Node
from cluster.doctor.findings_table import findings_table
from cluster.doctor.probe import NodeReport, StorageReport
from metatrain.config import load_config

GB = 10**9
VERSIONS = {"python": "3.11.7", "ray": "2.60.0", "torch": "2.13.0", "deepspeed": "0.19.8"}
GOOD = NodeReport(
    versions=VERSIONS,
    gpu_memory=[24 * GB] * 2,
    shm=30 * GB,
    disk=100 * GB,
    memory=60 * GB,
    credentials="AWS_PROFILE",
)
RESOURCES = {"CPU": 8.0, "GPU": 2.0}
RUN = ["data.path=s3://b/data", "run.dir=s3://b/runs", "cluster.gpus_per_worker=1"]
STORAGE = [
    StorageReport(url="s3://b/data", read_rate=GB),
    StorageReport(url="s3://b/runs", read_rate=GB, write_rate=GB),
]


def node(number, report, **further):
    address = f"10.0.0.{number}"
    return Node(id=str(number), address=address, resources=RESOURCES, report=report, **further)


def examination(*reports, run=RUN, **further):
    return Examination(
        nodes=[node(number, report) for number, report in enumerate(reports)],
        driver_versions=VERSIONS,
        config=load_config(None, run),
        **({"bandwidth": 5e9} | further),
    )


def findings_of(examination, *statuses):
    findings = [finding for check in CHECKS for finding in check(examination)]
    return {(f.check, f.node): f for f in findings if f.status in statuses}


def test_a_good_cluster_passes_every_check():
    good = replace(GOOD, storage=STORAGE)
    findings = findings_of(examination(good, good), "pass", "warn", "fail")
    assert {f.status for f in findings.values()} == {"pass"}
    assert {f.check for f in findings.values()} == {
        *("node", "versions", "GPUs", "capacity", "NCCL all-reduce", "/dev/shm", "free disk"),
        *("clock", "DeepSpeed", "credentials", "storage", "memory plan", "run"),
    }


def test_what_training_would_refuse_fails():
    refused = examination(GOOD, problems=("tasks have too few images\x1b[2J",))
    assert findings_of(refused, "fail")["run", "all"].detail == "tasks have too few images\\x1b[2J"


def test_what_would_fail_a_run_is_reported_with_its_node_and_a_fix():
    bad = replace(
        GOOD,
        versions=VERSIONS | {"torch": "2.12.0", "deepspeed": ""},
        gpu_memory=[24 * GB],
        credentials="",
        deepspeed_error="ImportError: no libcuda",
        storage=[StorageReport(url="s3://b/runs", error="cannot reach s3://b/runs: denied")],
    )
    failed = findings_of(examination(GOOD, bad, all_reduce_error="timed out"), "fail")
    assert {check for check, where in failed if where == "10.0.0.1"} == {
        *("versions", "GPUs", "DeepSpeed", "credentials", "storage"),
    }
    assert {check for check, where in failed if where == "all"} == {"NCCL all-reduce"}
    assert all(f.fix for f in failed.values())
    table = findings_table(list(failed.values()))
    assert "✗ fail  versions         10.0.0.1  deepspeed is missing, and 0.19.8 at" in table
    assert table.endswith("0 pass, 0 warn, 6 fail")


def test_what_is_slow_or_scarce_is_a_warning():
    slow = [StorageReport(url="s3://b", read_rate=1e6, write_rate=1e6)]
    scarce = replace(GOOD, shm=64 * 10**6, disk=GB, storage=slow)
    plain = examination(GOOD, scarce, bandwidth=1e8)
    late = replace(plain.nodes[0], address="late", clock_skew=9.0)
    skewed = replace(plain, nodes=[*plain.nodes, late])
    assert set(findings_of(skewed, "warn")) == {
        *(("/dev/shm", "10.0.0.1"), ("free disk", "10.0.0.1"), ("storage", "10.0.0.1")),
        *(("NCCL all-reduce", "all"), ("clock", "late")),
    }
    assert not findings_of(skewed, "fail")


def test_a_run_that_does_not_fit_fails_by_capacity_and_by_memory():
    small = replace(GOOD, gpu_memory=[10**6] * 2)
    run = [*RUN, "cluster.workers=4", "meta.batch=4"]
    failed = findings_of(examination(small, run=run), "fail")
    assert failed["capacity", "all"].detail == "the run needs 4 workers, and 2 fit"
    assert re.match(r"[\d.]+ MB of 1 MB per worker", failed["memory plan", "all"].detail)


def test_a_node_that_does_not_answer_fails_and_the_others_are_reported():
    silent = node(9, None, error="no ray")
    nodes = [node(0, GOOD), silent]
    findings = findings_of(Examination(nodes=nodes, driver_versions=VERSIONS), "pass", "fail")
    assert findings["node", "10.0.0.9"].detail == "no ray"
    assert findings["versions", "all"].status == "pass"


def test_a_real_cluster_is_examined_from_outside_as_a_job(jobs_head, checkout, tmp_path):
    command = [sys.executable, "-m", "cluster", "doctor", "my.yaml"]
    process = subprocess.run(
        [*command, "cluster.workers=3", "meta.batch=3", "--address", jobs_head.dashboard],
        cwd=checkout,
        env=jobs_head.environment | {"AWS_SECRET_ACCESS_KEY": "hush"},
        capture_output=True,
        text=True,
    )
    output = process.stdout + process.stderr
    assert process.returncode == 1, output
    assert re.search(r"✗ fail  capacity +all +the run needs 3 workers, and 2 fit", output)
    for check in (
        "node",
        "versions",
        "GPUs",
        "gloo all-reduce",
        "clock",
        "DeepSpeed",
        "memory plan",
    ):
        assert re.search(f"✓ pass  {check} ", output), output
    assert re.search(rf"pass  storage .*{tmp_path}/runs/small: reads .*B/s, writes .*B/s", output)
    assert "a run would fail here because of capacity; fix each line marked fail." in output
    assert not {jobs_head.token, "hush"} & set(re.findall(r"\w+", output))
    assert not list((tmp_path / "runs").rglob(".doctor-*"))
