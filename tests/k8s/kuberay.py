"""The checks of KubeRay v1.7.0's operator that go beyond its schemas."""

import re
from collections.abc import Iterator

from manifests import Object

_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
# KubeRay appends to these names for clusters and services, which must stay short enough.
_LONGEST = {"RayJob": 47, "RayCluster": 53, "RayService": 47}

# Each deletes all that the one before deletes, and more.
DELETIONS = ("DeleteWorkers", "DeleteCluster", "DeleteSelf")


def objections(ray: Object) -> Iterator[str]:
    """Yield the operator's objections to an object of Ray, at default feature gates."""
    name, spec = ray["metadata"]["name"], ray["spec"]
    if len(name) > _LONGEST[ray["kind"]] or not _LABEL.fullmatch(name):
        yield f"the name {name}"
    if ray["kind"] == "RayJob":
        yield from _job_objections(spec)
    if ray["kind"] == "RayService":
        yield from _service_objections(spec)
    yield from _cluster_objections(spec.get("rayClusterSpec", spec.get("rayClusterConfig", spec)))


def _job_objections(spec: Object) -> Iterator[str]:
    shutdown, strategy = spec.get("shutdownAfterJobFinishes"), spec.get("deletionStrategy")
    if spec.get("ttlSecondsAfterFinished") and not shutdown:
        yield "ttlSecondsAfterFinished without shutdownAfterJobFinishes"
    if spec.get("suspend") and not shutdown:
        yield "suspend without shutdownAfterJobFinishes"
    rules = (strategy or {}).get("deletionRules", [])
    if strategy is not None and not rules:
        yield "a deletionStrategy without rules"
    if rules and shutdown:
        yield "deletionRules beside shutdownAfterJobFinishes"
    after = deletions(spec)
    if sum(map(len, after.values())) < len(rules):
        yield "two rules for one policy and status"
    for status, policies in after.items():
        order = [policies[policy] for policy in DELETIONS if policy in policies]
        if order != sorted(order):
            yield f"deletions after {status} out of order"
        if "DeleteWorkers" in policies and spec["rayClusterSpec"].get("enableInTreeAutoscaling"):
            yield "DeleteWorkers of an autoscaled cluster"
    if "clusterSelector" in spec and spec.get("backoffLimit"):
        yield "backoffLimit with clusterSelector"
    submitter = spec.keys() & {"submitterPodTemplate", "submitterConfig"}
    if spec.get("submissionMode") == "SidecarMode" and submitter:
        yield f"SidecarMode with {', '.join(sorted(submitter))}"


def _service_objections(spec: Object) -> Iterator[str]:
    strategy = spec.get("upgradeStrategy", {}).get("type", "None")
    if strategy not in ("None", "NewCluster"):  # the third needs a feature gate
        yield f"the upgradeStrategy {strategy}"
    if "headService" in spec["rayClusterConfig"]["headGroupSpec"]:
        yield "the name of a service that KubeRay makes"


def deletions(job: Object) -> dict[str, dict[str, int]]:
    """Return the seconds until each deletion, by the job's final status and by policy."""
    delays: dict[str, dict[str, int]] = {}
    for rule in job.get("deletionStrategy", {}).get("deletionRules", []):
        (status,) = (rule["condition"].keys() - {"ttlSeconds"}) or {None}
        after = delays.setdefault(rule["condition"].get(status), {})
        after[rule["policy"]] = rule["condition"].get("ttlSeconds", 0)
    return delays


def _cluster_objections(spec: Object) -> Iterator[str]:
    autoscaled = spec.get("enableInTreeAutoscaling", False)
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    for group in groups:
        if group.get("resources") and group["rayStartParams"].keys() & {"num-cpus", "num-gpus"}:
            yield "resources beside rayStartParams"
        v2 = autoscaled and spec.get("autoscalerOptions", {}).get("version") == "v2"
        if v2 and group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            yield "autoscaler v2 with pods that restart"
    for group in spec["workerGroupSpecs"]:
        if not autoscaled and not {"minReplicas", "maxReplicas"} <= group.keys():
            yield f"group {group['groupName']} without minReplicas and maxReplicas"
        if group.get("minReplicas", 0) > group.get("maxReplicas", 2**31):
            yield f"group {group['groupName']} with minReplicas above maxReplicas"
    if spec.get("authOptions", {}).get("mode") == "token":
        version = tuple(int(part) for part in spec.get("rayVersion", "0").split("."))
        if version < (2, 52):
            yield "token authentication without a rayVersion of 2.52 or later"
    for gated in ("networkPolicy", "tlsOptions", "historyServerOptions"):
        if gated in spec:
            yield f"{gated}, whose feature is off"
