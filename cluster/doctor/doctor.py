"""Examine a cluster, and print the findings."""

import os

from cluster.doctor.checks import CHECKS
from cluster.doctor.examination import examine
from cluster.doctor.findings_table import findings_table
from cluster.run.ray_cluster import ray_connection
from metatrain.base.errors import UserError
from metatrain.config import Config


def doctor(config: Config | None) -> None:
    """Examine the cluster at RAY_ADDRESS, or this machine, and print the findings.

    Args:
        config: the configuration of a run to check for; None checks what any run needs.

    Raises:
        UserError: when a run would fail.
    """
    print("Examining the cluster; starting a worker on every node takes about 20 s.", flush=True)
    with ray_connection(cpus=os.cpu_count() or 1):
        examination = examine(config)
    findings = [finding for check in CHECKS for finding in check(examination)]
    print(findings_table(findings))
    failed = {finding.check: None for finding in findings if finding.status == "fail"}
    if failed:
        raise UserError(
            f"a run would fail here because of {', '.join(failed)}; fix each line marked fail."
        )
