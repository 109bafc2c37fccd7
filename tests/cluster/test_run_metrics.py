"""The metrics of a run for Prometheus, and the dashboard and alerts that use them.

test_submit proves that a real run exports every metric that they name.
"""

import itertools
import json
import re
from pathlib import Path

import pytest
import yaml

from cluster.run.metrics import seconds_by_part

FOLDER = Path(__file__).parents[2] / "k8s" / "overlays" / "serve-metrics"


def test_the_parts_of_a_step_add_up_to_its_seconds():
    record = {"seconds": 2.0, "data_wait": 0.25, "seconds_inner": 1.0, "seconds_engine": 0.3}
    parts = seconds_by_part(record | {"seconds_checkpoint": 0.7})
    assert parts == pytest.approx(
        {"data": 0.5, "inner": 1.0, "engine": 0.3, "other": 0.2, "checkpoint": 0.7}
    )
    # Clocks that are read one after another may add up to more.
    assert seconds_by_part(record | {"seconds": 1.0, "seconds_checkpoint": 0.0})["other"] == 0.0


def panels():
    return json.loads((FOLDER / "dashboard.json").read_text())["panels"]


def rules():
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_panels_do_not_overlap_and_each_queries_the_chosen_prometheus():
    taken = set()
    for panel in panels():
        x, y, width, height = (panel["gridPos"][key] for key in "xywh")
        columns, rows = range(x, x + width), range(y, y + height)
        cells = set(itertools.product(columns, rows))
        assert not cells & taken, panel["title"]
        assert max(columns) < 24
        taken |= cells
        assert panel["title"]
        assert panel["description"]
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
    assert len({panel["id"] for panel in panels()}) == len(panels())


@pytest.mark.parametrize("topic", ["tasks", "loss", "data", "time", "memory", "restart"])
def test_the_dashboard_has_a_panel_about(topic):
    assert any(topic in (panel["title"] + panel["description"]).lower() for panel in panels())


def test_every_alert_names_the_problem_the_place_and_a_remedy():
    for rule in rules():
        assert set(rule) == {"alert", "expr", "labels", "annotations"} | set(rule) & {"for"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert re.search(r"\$labels\.(run|ip)", rule["annotations"]["summary"])
        assert len(rule["annotations"]["description"]) > 40
    assert len({rule["alert"] for rule in rules()}) == len(rules())


def test_expressions_are_balanced_and_grouped():
    expressions = [t["expr"] for panel in panels() for t in panel["targets"]]
    for expression in [*expressions, *(rule["expr"] for rule in rules())]:
        for opening, closing in ("()", "[]", "{}"):
            assert expression.count(opening) == expression.count(closing), expression
        assert re.search(r"\bby \((run|part|ip|node_type)\b", expression), expression
