"""Checks of every overlay; each point of k8s/README.md has its own test.

A test takes the objects of an overlay, so that test_broken.py can pass it broken ones.
"""

import json
import re

import kubernetes_validate
import pytest
import yaml
from crds import complaints
from kuberay import DELETIONS, deletions, objections
from manifests import (
    OVERLAYS,
    ROOT,
    clusters,
    leaves,
    named,
    objects_of,
    of_kind,
    pods,
    quantity,
    ray_pods,
)
from network import End, external, passes

from metatrain.config import load_config
from serving.on_ray.settings import ServiceSettings

RAY = ("RayJob", "RayCluster", "RayService")
# Kinds of the Prometheus operator, whose schemas are not available here.
OTHERS = ("ServiceMonitor", "PrometheusRule")
_valid: set[str] = set()

# An assignment to a name of a secret, and the form of an AWS key.
_CREDENTIAL = re.compile(
    r"(?i:(secret_?access|password|token)\w*['\"]?\s*[:=]\s*\S)|\bAKIA[0-9A-Z]{16}\b"
)


@pytest.fixture(params=OVERLAYS)
def all_objects(request):
    """Return the objects of every overlay in turn."""
    return objects_of(request.param)


@pytest.fixture(params=[name for name in OVERLAYS if name != "serve-metrics"])
def objects(request):
    """Return the objects of every overlay that runs something in turn."""
    return objects_of(request.param)


def jobs(objects):
    return [job["spec"] for job in of_kind(objects, "RayJob")]


def configuration(objects):
    """Return the files of the ConfigMap that all pods of a cluster mount at /etc/metatrain."""
    (name,) = {pod.mounted("/etc/metatrain")["configMap"]["name"] for pod in ray_pods(objects)}
    return named(objects, "ConfigMap", name)["data"]


# ---- Validity for the API server and KubeRay.


def test_every_object_of_kubernetes_is_valid_at_1_32_and_has_no_unknown_field(all_objects):
    plain = [o for o in all_objects if o["kind"] not in RAY + OTHERS]
    if of_kind(all_objects, *RAY):  # from which KubeRay creates pods
        plain += [{"apiVersion": "v1", "kind": "Pod"} | p.template for p in pods(all_objects)]
    assert plain
    for one in plain:
        text = json.dumps(one, sort_keys=True)
        if text not in _valid:  # most objects occur in most overlays
            kubernetes_validate.validate(one, "1.32", strict=True)
            _valid.add(text)


def test_every_object_of_ray_is_valid_at_kuberay_1_7_0_and_has_no_unknown_field(objects):
    for ray in of_kind(objects, *RAY):
        assert not complaints(ray)


def test_kuberay_itself_accepts_every_object_of_ray(objects):
    for ray in of_kind(objects, *RAY):
        assert not list(objections(ray))


def test_everything_lies_in_the_namespace(all_objects):
    cluster_wide = {"Namespace", "PriorityClass"}
    for one in all_objects:
        inside = one["metadata"].get("namespace") == "metatrain"
        assert inside or one["kind"] in cluster_wide, one["metadata"]


# ---- Start, failure and end of a job.


def test_a_job_that_has_ended_gives_everything_back(objects):
    for job in jobs(objects):
        after = deletions(job)
        by_rules = after.keys() == {"SUCCEEDED", "Failed"}
        by_flag = job.get("shutdownAfterJobFinishes") and job.get("ttlSecondsAfterFinished", 0) > 0
        assert by_rules != bool(by_flag)
        assert all(policies.keys() == set(DELETIONS) for policies in after.values())


def test_workers_go_first_where_neither_kueue_nor_the_autoscaler_forbids_it(objects):
    for job in of_kind(objects, "RayJob"):
        queued = "kueue.x-k8s.io/queue-name" in job["metadata"]["labels"]
        if queued or job["spec"]["rayClusterSpec"].get("enableInTreeAutoscaling"):
            continue
        for after in deletions(job["spec"]).values():
            assert after["DeleteWorkers"] == 0 < after["DeleteCluster"] < after["DeleteSelf"]


def test_a_job_has_deadlines_before_it_runs_and_altogether(objects):
    for job in jobs(objects):
        before, total = (
            job.get(f"{which}DeadlineSeconds", 0) for which in ("preRunning", "active")
        )
        assert 0 < before < total


def test_another_attempt_is_a_fresh_cluster_which_resumes_by_the_name_of_its_work(objects):
    for job in jobs(objects):
        assert job["backoffLimit"] >= 1
        assert "clusterSelector" not in job
        assert "jobId" not in job
        assert "gcsFaultToleranceOptions" not in job["rayClusterSpec"]
        files = {name: yaml.safe_load(text) for name, text in configuration(objects).items()}
        work = files.get("sweep.yaml") or files["run.yaml"]["run"]
        assert work["name"]
        assert work["dir"].startswith("s3://")


def test_the_submission_mode_is_explicit_and_the_submitter_never_tries_again(objects):
    for job in jobs(objects):
        assert job.get("submissionMode") == "K8sJobMode"
        assert job.get("submitterConfig") == {"backoffLimit": 0}
        assert job["submitterPodTemplate"]["spec"]["restartPolicy"] == "Never"


def test_the_entrypoint_reads_a_file_that_the_configuration_has(objects):
    for job in jobs(objects):
        python, flag, package, _, file = job["entrypoint"].split()
        assert (python, flag) == ("python", "-m")
        assert (ROOT / package).is_dir() or package == "tuning"
        folder, _, name = file.rpartition("/")
        assert folder == "/etc/metatrain"
        assert name in configuration(objects)


def load_config_of(text):
    return load_config(None, [f"{k}={json.dumps(v)}" for k, v in yaml.safe_load(text).items()])


# ---- The parts of a cluster.


def test_the_head_takes_no_work_and_no_gpu(objects):
    for cluster in clusters(objects):
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        assert "num-gpus" not in cluster["headGroupSpec"]["rayStartParams"]
    for pod in ray_pods(objects):
        if pod.role == "head":
            assert not any("gpu" in r for r in pod.container["resources"]["limits"])


def test_the_head_has_memory_enough_not_to_be_killed(objects):
    for pod in ray_pods(objects):
        if pod.role == "head":
            assert quantity(pod.container["resources"]["limits"]["memory"]) >= 5 * 1024**3


def test_requests_equal_limits_in_every_container(objects):
    for resources in all_resources(objects):
        assert resources["requests"] == resources["limits"]
        assert {"cpu", "memory"} <= resources["limits"].keys()


def all_resources(objects):
    autoscalers = [c["autoscalerOptions"] for c in clusters(objects) if "autoscalerOptions" in c]
    return [one["resources"] for one in [*(p.container for p in pods(objects)), *autoscalers]]


def test_workers_with_gpus_tolerate_their_nodes_and_take_one_each(objects):
    for pod in ray_pods(objects):
        if "nvidia.com/gpu" not in pod.container["resources"]["limits"]:
            continue
        gpu = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
        assert gpu in pod.spec["tolerations"]
        (spread,) = pod.spec["topologySpreadConstraints"]
        assert spread["topologyKey"] == "kubernetes.io/hostname"
        assert (spread["maxSkew"], spread["whenUnsatisfiable"]) == (1, "DoNotSchedule")
        assert spread["labelSelector"]["matchLabels"].items() <= pod.labels.items()
        assert spread["matchLabelKeys"] == ["ray.io/cluster"]


def test_shared_memory_is_sized_and_the_object_store_fits_into_it(objects):
    for cluster in clusters(objects):
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            (pod,) = (p for p in ray_pods(objects) if p.template is group["template"])
            shm = pod.mounted("/dev/shm")["emptyDir"]
            assert shm["medium"] == "Memory"
            memory = quantity(pod.container["resources"]["limits"]["memory"])
            store = int(group["rayStartParams"]["object-store-memory"])
            assert store < quantity(shm.get("sizeLimit", 0)) < memory / 2


def test_a_cluster_is_a_gang_or_grows_and_shrinks_by_autoscaler_v2(objects):
    for cluster in clusters(objects):
        (group,) = cluster["workerGroupSpecs"]
        numbers = [group[key] for key in ("minReplicas", "replicas", "maxReplicas")]
        if cluster.get("enableInTreeAutoscaling"):
            assert cluster["autoscalerOptions"]["version"] == "v2"
            assert cluster["autoscalerOptions"]["idleTimeoutSeconds"] > 0
            assert numbers[:2] == [0, 0]
        else:
            assert len(set(numbers)) == 1
        assert numbers[-1] > 0


def test_what_a_run_asks_of_ray_its_workers_have(objects):
    if of_kind(objects, "RayService"):  # which runs nothing; its own test compares it
        assert not [c for c in of_kind(objects, "ConfigMap") if "run.yaml" in c["data"]]
        return
    config = load_config_of(configuration(objects)["run.yaml"]).cluster
    for pod in ray_pods(objects):
        if pod.role == "worker":
            has = pod.container["resources"]["limits"]
            cpus = pod.count * quantity(has["cpu"])
            gpus = pod.count * quantity(has.get("nvidia.com/gpu", 0))
            assert config.workers * config.cpus_per_worker <= cpus
            assert config.workers * config.gpus_per_worker <= gpus
            assert bool(gpus) == bool(config.gpus_per_worker)


def test_ray_is_the_version_that_the_image_installs(objects):
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.M)
    for cluster in clusters(objects):
        assert cluster["rayVersion"] == pinned[1]


def test_every_image_is_named_by_its_digest_and_is_the_same(objects):
    images = {pod.container["image"] for pod in pods(objects)}
    assert len(images) == 1
    assert all(re.fullmatch(r"[\w./:-]+@sha256:[0-9a-f]{64}", image) for image in images)


def test_nothing_is_installed_or_fetched_at_run_time(objects):
    for ray in of_kind(objects, *RAY):
        for path, value in leaves(ray):
            assert "runtimeEnv" not in path
            assert not re.search(r"\b(pip|conda|uv|apt-get|curl|wget)\b", str(value)), path


# ---- Permissions and secrets.


def test_no_secret_stands_in_a_manifest(all_objects):
    assert not of_kind(all_objects, "Secret")
    for one in all_objects:
        for path, value in leaves(one):
            assert not _CREDENTIAL.search(str(value)), path


def test_credentials_of_the_store_come_from_a_secret_or_from_the_workloads_identity(objects):
    for pod in pods(objects):
        env = {e["name"]: e for e in pod.container.get("env", [])}
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            if pod.role != "submitter":  # which reads no data
                reference = env[name].get("valueFrom", {}).get("secretKeyRef", {})
                assert (reference.get("name"), reference.get("key")) == ("store", name)
                # Without a Secret, workload identity applies; the store itself needs the Secret.
                assert reference.get("optional", False) == (pod.role != "store")
        secret = re.compile("KEY|SECRET|TOKEN|PASSWORD")
        assert not [n for n, e in env.items() if secret.search(n) and "value" in e]


def test_every_cluster_wants_a_token_which_no_manifest_overrides(objects):
    for cluster in clusters(objects):
        # Without secretName, KubeRay creates a Secret for each cluster.
        assert cluster.get("authOptions") == {"mode": "token"}
    for pod in pods(objects):
        names = {e["name"] for e in pod.container.get("env", [])}
        assert not names & {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}


def test_pods_have_an_account_of_their_own_and_its_token_only_to_autoscale(objects):
    autoscaled = any(c.get("enableInTreeAutoscaling") for c in clusters(objects))
    for account in of_kind(objects, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    # Of these alone, `metatrain` and `metatrain-autoscaler` may have rights to the bucket.
    accounts = {"worker": "metatrain", "head": "metatrain"}
    accounts |= {"submitter": "metatrain-submitter", "store": "metatrain-store"}
    for pod in pods(objects):
        scales = autoscaled and pod.role == "head"
        name = "metatrain-autoscaler" if scales else accounts[pod.role]
        assert pod.spec["serviceAccountName"] == name
        assert named(objects, "ServiceAccount", name)
        assert pod.spec["automountServiceAccountToken"] is scales


def test_every_pod_is_restricted_and_the_namespace_admits_no_other(objects):
    (namespace,) = of_kind(objects, "Namespace")
    labels = namespace["metadata"]["labels"]
    for level in ("enforce", "audit", "warn"):
        assert labels.get(f"pod-security.kubernetes.io/{level}") == "restricted"
        assert labels.get(f"pod-security.kubernetes.io/{level}-version")
    for pod in pods(objects):
        spec, context = pod.spec, pod.spec["securityContext"]
        assert context["runAsNonRoot"]
        assert context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC", "initContainers"}
        kinds = {key for volume in spec["volumes"] for key in volume} - {"name"}
        assert kinds <= {"emptyDir", "configMap", "persistentVolumeClaim", "secret"}
        assert not any("hostPort" in port for port in pod.container.get("ports", []))
    for context in security_contexts(objects):
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert not context.get("privileged")


def security_contexts(objects):
    autoscalers = [c["autoscalerOptions"] for c in clusters(objects) if "autoscalerOptions" in c]
    return [one["securityContext"] for one in [*(p.container for p in pods(objects)), *autoscalers]]


def test_every_root_file_system_is_read_only_and_what_is_written_has_a_limit(objects):
    for context in security_contexts(objects):
        assert context["readOnlyRootFilesystem"] is True
    for pod in pods(objects):
        assert "sizeLimit" in pod.mounted("/tmp")["emptyDir"]
        for volume in pod.spec["volumes"]:
            assert "emptyDir" not in volume or "sizeLimit" in volume["emptyDir"]


def test_the_network_lets_through_the_cluster_names_the_store_and_kuberay_alone(objects):
    ends = {pod.role: End(pod.labels) for pod in pods(objects)}
    head, worker, stranger = ends["head"], ends["worker"], End({"app": "other"})
    dns = End({"k8s-app": "kube-dns"}, "kube-system")
    kuberay, impostor = (
        End({"app.kubernetes.io/name": "kuberay-operator"}, namespace)
        for namespace in ("ray-system", "default")
    )
    internet, private = external("52.216.1.1"), external("10.1.2.3")
    in_cluster, autoscaled = "store" in ends, "enableInTreeAutoscaling" in clusters(objects)[0]

    def may(source, target, port, protocol="TCP"):
        return passes(objects, source, target, port, protocol)

    assert all(may(a, b, 12345) for a in (head, worker) for b in (head, worker))
    neighbour = End(worker.labels | {"app.kubernetes.io/instance": "another-run"})
    assert not any(may(*ends, 12345) for ends in ((worker, neighbour), (neighbour, worker)))
    assert "submitter" not in ends or may(ends["submitter"], head, 8265)
    assert may(worker, dns, 53, "UDP")
    assert not may(worker, dns, 54)
    assert may(kuberay, head, 8265)
    assert not may(kuberay, head, 6379)
    assert not may(kuberay, worker, 8265)
    for outsider in (stranger, End({"app": "other"}, "default"), impostor, internet, private):
        assert not may(outsider, head, 8265)
        assert not may(outsider, worker, 10001)
        assert not may(worker, outsider, 80)
    assert may(worker, internet, 443) != in_cluster
    assert not may(worker, private, 443)
    # The address where clouds provide a machine's credentials.
    assert not may(worker, external("169.254.169.254"), 80)
    api_servers = endpoints_of_the_api(objects)
    assert bool(api_servers) == autoscaled
    for address, port in api_servers:
        assert may(head, address, port)
        assert not may(head, address, port + 1)
        assert not may(worker, address, port)
    assert not any(may(head, private, port) for port in (443, 6443))
    if in_cluster:
        assert may(worker, ends["store"], 8333)
        assert not may(worker, ends["store"], 8888)
        assert not may(ends["store"], internet, 443)
        assert not may(stranger, ends["store"], 8333)


def endpoints_of_the_api(objects):
    """List the single addresses, with ports, that the policy `autoscaler` names."""
    blocks = [
        (peer["ipBlock"]["cidr"], port["port"])
        for policy in of_kind(objects, "NetworkPolicy")
        if policy["metadata"]["name"] == "autoscaler"
        for rule in policy["spec"]["egress"]
        for peer in rule["to"]
        for port in rule["ports"]
    ]
    assert all(cidr.endswith("/32") for cidr, _ in blocks)
    return [(external(cidr.removesuffix("/32")), port) for cidr, port in blocks]


# ---- Loss of a node.


def test_workers_save_before_they_leave(objects):
    for pod in ray_pods(objects):
        if pod.role == "worker":
            hook = pod.container["lifecycle"]["preStop"]["exec"]["command"]
            assert hook[:-1] == ["python", "-m", "cluster", "leave", "--within"]
            # Ray needs time to end after the hook.
            assert 100 <= int(hook[-1]) < pod.spec["terminationGracePeriodSeconds"]


def test_pods_do_not_come_back_in_place(objects):
    for pod in ray_pods(objects):
        assert pod.spec["restartPolicy"] == "Never"


def test_a_drain_waits_for_the_head_and_the_submitter_but_not_for_workers(objects):
    guarded = []
    for budget in of_kind(objects, "PodDisruptionBudget"):
        # Kubernetes computes no percentage and no maxUnavailable for pods of a RayCluster.
        assert budget["spec"]["minAvailable"] == 1
        labels = budget["spec"]["selector"]["matchLabels"].items()
        guarded += [pod.role for pod in pods(objects) if labels <= pod.labels.items()]
    assert sorted(guarded) == ["head"] + ["submitter"] * bool(jobs(objects))


def test_every_ray_pod_has_the_priority_class_which_throws_nobody_out(objects):
    (priority,) = of_kind(objects, "PriorityClass")
    assert priority["preemptionPolicy"] == "Never"
    assert not priority.get("globalDefault")
    for pod in pods(objects):
        if pod.role != "store":
            assert pod.spec["priorityClassName"] == priority["metadata"]["name"]


def test_the_quota_has_room_for_the_run(objects):
    (quota,) = of_kind(objects, "ResourceQuota")
    hard = quota["spec"]["hard"]
    uses = {"pods": sum(pod.count for pod in pods(objects))}
    for side in ("requests", "limits"):
        for resource in ("cpu", "memory", "ephemeral-storage", "nvidia.com/gpu"):
            uses[f"{side}.{resource}"] = sum(
                pod.count * quantity(pod.container["resources"][side].get(resource, 0))
                for pod in pods(objects)
            )
    # Kubernetes has no quota of these limits, which equal the requests.
    del uses["limits.nvidia.com/gpu"]
    claims = [claim["spec"] for claim in of_kind(objects, "PersistentVolumeClaim")]
    uses["persistentvolumeclaims"] = len(claims)
    uses["requests.storage"] = sum(quantity(c["resources"]["requests"]["storage"]) for c in claims)
    # KubeRay creates a service for each cluster.
    uses["services"] = len(of_kind(objects, "Service")) + len(clusters(objects))
    for name, used in uses.items():
        assert name in hard, name
        assert used <= quantity(hard[name]), name
    assert {hard.get(f"services.{kind}") for kind in ("loadbalancers", "nodeports")} == {"0"}


def test_metrics_are_offered_by_every_pod_of_ray(objects):
    for pod in ray_pods(objects):
        assert {"name": "metrics", "containerPort": 8080} in pod.container["ports"]


def test_prometheus_finds_every_pod_of_ray_and_is_let_in():
    metrics, run = objects_of("serve-metrics"), objects_of("dev")
    (service,), (monitor,) = of_kind(metrics, "Service"), of_kind(metrics, "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    assert wanted <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    prometheus, other = End({}, "monitoring"), End({}, "default")
    for pod in ray_pods(run):
        assert service["spec"]["selector"].items() <= pod.labels.items()
        assert passes(metrics + run, prometheus, End(pod.labels), 8080)
        assert not passes(metrics + run, prometheus, End(pod.labels), 6379)
        assert not passes(metrics + run, other, End(pod.labels), 8080)


def test_logs_are_left_to_the_platform(objects):
    for pod in pods(objects):
        assert len(pod.spec["containers"]) == 1


# ---- Single overlays.


def test_kueue_queues_the_job_by_its_label_and_may_suspend_it():
    (job,) = of_kind(objects_of("kueue"), "RayJob")
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "metatrain"
    assert job["spec"]["shutdownAfterJobFinishes"]
    assert "deletionStrategy" not in job["spec"]
    # With it, a second apply would suspend a job that Kueue has admitted.
    assert "suspend" not in job["spec"]


def test_volcano_takes_the_job_for_a_gang_by_its_labels():
    (job,) = of_kind(objects_of("volcano"), "RayJob")
    assert job["metadata"]["labels"]["volcano.sh/queue-name"]
    assert job["metadata"]["labels"]["ray.io/priority-class-name"] == "metatrain"


def test_spot_workers_run_on_spot_nodes_and_their_head_never():
    terms = {
        pod.role: pod.spec["affinity"]["nodeAffinity"][
            "requiredDuringSchedulingIgnoredDuringExecution"
        ]["nodeSelectorTerms"]
        for pod in ray_pods(objects_of("spot"))
    }
    spot = {(e["key"], *e["values"]) for term in terms["worker"] for e in term["matchExpressions"]}
    (never,) = terms["head"]
    assert spot == {(e["key"], *e["values"]) for e in never["matchExpressions"]}
    assert {e["operator"] for e in never["matchExpressions"]} == {"NotIn"}
    assert {e["operator"] for t in terms["worker"] for e in t["matchExpressions"]} == {"In"}


def test_the_sweep_has_the_run_that_it_varies_beside_it():
    data = configuration(objects_of("sweep"))
    assert yaml.safe_load(data["sweep.yaml"])["base"] == "/etc/metatrain/run.yaml"
    assert "run.yaml" in data


def test_the_service_is_served_by_workers_to_its_clients_alone():
    objects = objects_of("serve")
    (service,) = of_kind(objects, "RayService")
    # A second cluster would wait for the first one's store, and KubeRay for the second one.
    assert service["spec"]["upgradeStrategy"] == {"type": "None"}
    served = yaml.safe_load(service["spec"]["serveConfigV2"])
    assert served["http_options"] == {"host": "0.0.0.0", "port": 8000}
    (application,) = served["applications"]
    module, _, name = application["import_path"].partition(":")
    assert f"\ndef {name}(" in (ROOT / module.replace(".", "/")).with_suffix(".py").read_text()
    settings = ServiceSettings.model_validate(application["args"])
    assert settings.store.startswith("s3://")
    assert f"{service['metadata']['name']}-serve-svc" in settings.hosts
    workers = [pod for pod in ray_pods(objects) if pod.role == "worker"]
    cpus = sum(pod.count * quantity(pod.container["resources"]["limits"]["cpu"]) for pod in workers)
    assert 1 + 2 * settings.replicas * settings.cpus <= cpus
    for pod in ray_pods(objects):
        folder, name = settings.clients.parent, settings.clients.name
        assert name == "tokens.json"
        secret = pod.mounted(str(folder))["secret"]
        assert secret == {"secretName": "clients", "defaultMode": 0o440}
    for pod in workers:
        assert pod.container["readinessProbe"]["httpGet"] == {"path": "/-/healthz", "port": "serve"}
        assert {"name": "serve", "containerPort": 8000} in pod.container["ports"]
        assert passes(objects, End({}, "ingress-nginx"), End(pod.labels), 8000)
        assert not passes(objects, End({}, "ingress-nginx"), End(pod.labels), 8265)
        assert not passes(objects, End({"app": "other"}, "default"), End(pod.labels), 8000)
        assert not passes(objects, external("52.216.1.1"), End(pod.labels), 8000)


def test_the_interactive_cluster_is_the_jobs_without_the_job():
    interactive, sweep = objects_of("interactive"), objects_of("sweep")
    assert not of_kind(interactive, "RayJob")
    (cluster,), (of_job,) = clusters(interactive), clusters(sweep)
    without = [json.loads(re.sub(r'"run-\w+"', '"run"', json.dumps(c))) for c in (cluster, of_job)]
    assert without[0] == without[1]
