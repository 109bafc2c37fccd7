"""What is found on a cluster before a run would fail on it."""

import re
import subprocess
import sys
from dataclasses import replace

from cluster.doctor.checks import CHECKS
from cluster.doctor.examination import Node, Patient
from cluster.doctor.findings_table import table
from cluster.doctor.probe import Facts, Storage
from metatrain.config import load_config

GB = 10**9
VERSIONS = {"python": "3.11.7", "ray": "2.60.0", "torch": "2.13.0", "deepspeed": "0.19.8"}
WELL = Facts(VERSIONS, [24 * GB] * 2, 30 * GB, 100 * GB, 60 * GB, 0.0, "AWS_PROFILE")
RESOURCES = {"CPU": 8.0, "GPU": 2.0}
RUN = ["data.path=s3://b/data", "run.dir=s3://b/runs", "cluster.gpus_per_worker=1"]
PLACES = [Storage("s3://b/data", reads=GB), Storage("s3://b/runs", reads=GB, writes=GB)]


def patient(*facts, resources=RESOURCES, run=RUN, **further):
    nodes = [Node(str(i), f"10.0.0.{i}", resources, f) for i, f in enumerate(facts)]
    return Patient(nodes, VERSIONS, load_config(None, run), **({"bandwidth": 5e9} | further))


def found(who, *verdicts):
    findings = [finding for check in CHECKS for finding in check(who)]
    return {(f.what, f.where): f for f in findings if f.verdict in verdicts}


def test_a_cluster_that_is_well_has_every_check_pass():
    well = replace(WELL, storage=PLACES)
    findings = found(patient(well, well), "pass", "warn", "fail")
    assert {f.verdict for f in findings.values()} == {"pass"}
    assert {f.what for f in findings.values()} == {
        *("node", "versions", "GPUs", "room", "NCCL all-reduce", "/dev/shm", "free disk"),
        *("clock", "DeepSpeed", "credentials", "storage", "memory plan"),
    }


def test_what_would_fail_a_run_is_told_with_its_node_and_a_fix():
    ill = replace(
        WELL,
        versions=VERSIONS | {"torch": "2.12.0", "deepspeed": ""},
        gpus=[24 * GB],
        credentials="",
        deepspeed="ImportError: no libcuda",
        storage=[Storage("s3://b/runs", "cannot reach s3://b/runs: denied")],
    )
    failed = found(patient(WELL, ill, apart="timed out"), "fail")
    assert {what for what, where in failed if where == "10.0.0.1"} == {
        *("versions", "GPUs", "DeepSpeed", "credentials", "storage"),
    }
    assert {what for what, where in failed if where == "all"} == {"NCCL all-reduce"}
    assert all(f.fix for f in failed.values())
    shown = table(list(failed.values()))
    assert "✗ fail  versions         10.0.0.1  deepspeed is missing, and 0.19.8 at" in shown
    assert shown.endswith("0 pass, 0 warn, 6 fail")


def test_what_is_merely_slow_or_scarce_is_a_warning():
    scarce = replace(WELL, shm=64 * 10**6, disk=GB, storage=[Storage("s3://b", "", 1e6, 1e6)])
    who = patient(WELL, scarce, bandwidth=1e8)
    nodes = [*who.nodes, replace(who.nodes[0], name="late", skew=9.0)]
    late = Patient(nodes, VERSIONS, who.config, bandwidth=1e8)
    assert set(found(late, "warn")) == {
        *(("/dev/shm", "10.0.0.1"), ("free disk", "10.0.0.1"), ("storage", "10.0.0.1")),
        *(("NCCL all-reduce", "all"), ("clock", "late")),
    }
    assert not found(late, "fail")


def test_a_run_that_does_not_fit_is_told_by_room_and_by_memory():
    small = replace(WELL, gpus=[10**6] * 2)
    failed = found(patient(small, run=[*RUN, "cluster.workers=4", "meta.batch=4"]), "fail")
    assert failed["room", "all"].said == "room for 2 workers, and 4 are wanted"
    assert re.match(r"[\d.]+ MB of 1 MB a worker", failed["memory plan", "all"].said)


def test_a_node_that_says_nothing_fails_and_the_others_are_told_of():
    who = patient(WELL)
    silent = Patient([*who.nodes, Node("9", "10.0.0.9", RESOURCES, trouble="no ray")], VERSIONS)
    findings = found(silent, "pass", "fail")
    assert findings["node", "10.0.0.9"].said == "no ray"
    assert findings["versions", "all"].verdict == "pass"


def test_a_real_cluster_is_examined_from_outside_as_a_job(jobs_head, checkout, tmp_path):
    command = [sys.executable, "-m", "cluster", "doctor", "my.yaml"]
    examined = subprocess.run(
        [*command, "cluster.workers=3", "meta.batch=3", "--address", jobs_head.dashboard],
        cwd=checkout,
        env=jobs_head.environment | {"AWS_SECRET_ACCESS_KEY": "hush"},
        capture_output=True,
        text=True,
    )
    said = examined.stdout + examined.stderr
    assert examined.returncode == 1, said
    assert re.search(r"✗ fail  room +all +room for 2 workers, and 3 are wanted", said)
    for what in (
        "node",
        "versions",
        "GPUs",
        "gloo all-reduce",
        "clock",
        "DeepSpeed",
        "memory plan",
    ):
        assert re.search(f"✓ pass  {what} ", said), said
    assert re.search(rf"pass  storage .*{tmp_path}/runs/small: reads .*B/s, writes .*B/s", said)
    assert "a run would fail here, for room; mend what says fail." in said
    assert not {jobs_head.token, "hush"} & set(re.findall(r"\w+", said))
    assert not list((tmp_path / "runs").rglob(".doctor-*"))
