"""The board and the alerts: only what we export, and only what can be asked."""

import json
import re
import shutil
import subprocess
from typing import Any

import pytest

from bindu.dspy.telemetry import counted_exposure, metrics_text, prometheus
from recipes import DEPLOY, ROOT, compose, documents

ALERTS = ("BinduSnapshotStale", "BinduExchangesNotStored", "BinduExperimentNeedsPerson", "BinduControllerStopped")


def board() -> dict[str, Any]:
    return dict(json.loads((DEPLOY / "grafana/bindu-dspy.json").read_text(encoding="utf-8")))


def alerts() -> list[dict[str, Any]]:
    [found] = documents(DEPLOY / "prometheus/alerts.yml")
    [group] = found["groups"]
    return list(group["rules"])


def queries() -> list[str]:
    panels = [target["expr"] for panel in board()["panels"] for target in panel["targets"]]
    return [*panels, *(rule["expr"] for rule in alerts())]


def series() -> dict[str, set[str]]:
    """The names a query can use, with their labels."""
    counters = (prometheus.EXPOSURES, prometheus.FEEDBACK, prometheus.FAILURES)
    seconds, labels = prometheus.REQUESTS._name, set(prometheus.REQUESTS._labelnames)
    return {
        **{name: set(labels) for name, (_, labels) in prometheus.GAUGES.items()},
        **{f"{metric._name}_total": set(metric._labelnames) for metric in counters},
        f"{prometheus.DROPPED[0]}_total": set(prometheus.DROPPED[2]),
        f"{seconds}_bucket": labels | {"le"},
        f"{seconds}_count": labels,
        "bindu_build_info": {"version"},
    }


def test_every_query_uses_metrics_and_labels_that_we_export() -> None:
    known = series()
    for query in queries():
        names = re.findall(r"\bbindu_\w+", query)
        assert names
        labels = {label for name in names for label in known[name]} | {"instance"}
        used = [name for group in re.findall(r"\b(?:by|without) \(([^)]*)\)", query) for name in group.split(", ")]
        used += re.findall(r"(\w+)=\"", query)
        assert set(used) <= labels, query


def test_every_query_is_promql() -> None:
    promql = pytest.importorskip("promql_parser", reason="pip install promql-parser")
    for query in queries():
        promql.parse(query.replace("$__rate_interval", "1m").replace("$agent", "support"))
    with pytest.raises(ValueError, match=r"."):
        promql.parse("max by (agent (bindu_spool_bytes)")


def test_the_board_shows_what_matters_and_no_two_panels_overlap() -> None:
    shown = {name for query in queries() for name in re.findall(r"\bbindu_\w+", query)}
    assert set(prometheus.GAUGES) <= shown
    places = [
        (panel["gridPos"]["x"] + column, panel["gridPos"]["y"] + row)
        for panel in board()["panels"]
        for column in range(panel["gridPos"]["w"])
        for row in range(panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places))
    assert max(column for column, _ in places) < 24
    variables = {variable["name"] for variable in board()["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(board()["panels"])))
    assert used - {"__rate_interval"} == variables


def test_there_are_four_alerts_and_the_documentation_says_what_to_do_on_each() -> None:
    text = (ROOT / "docs/how-to/deploy.md").read_text(encoding="utf-8")
    assert tuple(rule["alert"] for rule in alerts()) == ALERTS
    for rule in alerts():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert re.fullmatch(r"\d+[smh]", rule["for"])
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}
        page, anchor = rule["annotations"]["runbook"].split("#")
        assert page == "docs/how-to/deploy.md"
        assert anchor == rule["alert"].lower()
        assert f"### {rule['alert']}\n" in text


def test_prometheus_reads_the_alerts_and_grafana_the_board_from_where_compose_puts_them() -> None:
    [config] = documents(DEPLOY / "prometheus/prometheus.yml")
    assert [(DEPLOY / "prometheus" / name).exists() for name in config["rule_files"]] == [True]
    [target] = config["scrape_configs"][0]["static_configs"][0]["targets"]
    assert target.split(":")[0] in compose()["services"]
    [provider] = documents(DEPLOY / "grafana/provisioning/dashboards/bindu-dspy.yaml")[0]["providers"]
    board_at = next(volume for volume in compose()["services"]["grafana"]["volumes"] if "bindu-dspy.json" in volume)
    assert board_at.split(":")[1].startswith(provider["options"]["path"])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on this machine")
def test_prometheus_takes_the_configuration_and_the_alerts_fire_when_they_should() -> None:
    folder = DEPLOY / "prometheus"
    for words in (["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run(["promtool", *words], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on this machine")
def test_prometheus_finds_nothing_to_say_of_our_metrics() -> None:
    counted_exposure({"id": 1, "agent_id": "support", "arm": "active"})
    done = subprocess.run(["promtool", "check", "metrics"], input=metrics_text()[0], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
