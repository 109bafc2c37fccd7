"""Examining a cluster, and telling what was found."""

import os

from cluster.doctor.checks import CHECKS
from cluster.doctor.examination import examine
from cluster.doctor.findings_table import table
from cluster.run.ray_cluster import joined_cluster
from metatrain.base.errors import UserError
from metatrain.config import Config


def doctor(config: Config | None) -> None:
    """Examine the cluster at RAY_ADDRESS, or this machine, and print what was found.

    Args:
        config: of the run that it is to take; None looks at what any run needs.

    Raises:
        UserError: when something is found with which a run would fail.
    """
    print("Examining; starting a worker on every node takes some 20 s.", flush=True)
    with joined_cluster(os.cpu_count() or 1):
        patient = examine(config)
    findings = [finding for check in CHECKS for finding in check(patient)]
    print(table(findings))
    failed = {f.what: None for f in findings if f.verdict == "fail"}
    if failed:
        raise UserError(f"a run would fail here, for {', '.join(failed)}; mend what says fail.")
