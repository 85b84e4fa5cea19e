"""The Helm chart, linted and rendered by Helm itself."""

from typing import Any

import pytest

from bindu.settings import WorkerSettings
from recipes import CHART, crontab_lines, pod_of, rendered, understood

helm = pytest.importorskip("helm_python", reason="needs helm-python-sdk")


def test_helm_lints_the_chart_without_a_warning() -> None:
    report = helm.chart.lint(str(CHART), strict=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


def test_the_chart_serves_migrates_first_and_schedules_both_jobs() -> None:
    found = rendered()
    assert sorted(found) == [
        "CronJob/demo-canary",
        "CronJob/demo-train",
        "Deployment/demo-serve",
        "Job/demo-migrate",
        "Service/demo",
    ]
    assert found["Job/demo-migrate"]["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    for name in ("train", "canary"):
        assert found[f"CronJob/demo-{name}"]["spec"]["concurrencyPolicy"] == "Forbid"
    serve, service = found["Deployment/demo-serve"], found["Service/demo"]
    labels = serve["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert serve["spec"]["selector"]["matchLabels"].items() <= labels.items()
    [container] = pod_of(serve)["containers"]
    probes = {name: probe["httpGet"]["path"] for name, probe in container.items() if name.endswith("Probe")}
    assert probes == {"startupProbe": "/readyz", "readinessProbe": "/livez", "livenessProbe": "/livez"}


def test_exchanges_that_wait_for_the_database_outlive_a_pod_when_a_claim_is_named() -> None:
    [home, _] = pod_of(rendered()["Deployment/demo-serve"])["volumes"]
    assert home == {"name": "home", "emptyDir": {"sizeLimit": "512Mi"}}
    [home, _] = pod_of(rendered(serve={"spoolClaimName": "spool"})["Deployment/demo-serve"])["volumes"]
    assert home == {"name": "home", "persistentVolumeClaim": {"claimName": "spool"}}


def test_a_worker_takes_the_place_of_the_cronjobs_and_a_monitor_finds_the_service() -> None:
    found = rendered(worker={"enabled": True}, serviceMonitor={"enabled": True})
    assert sorted(found) == [
        "Deployment/demo-serve",
        "Deployment/demo-worker",
        "Job/demo-migrate",
        "Service/demo",
        "ServiceMonitor/demo",
    ]
    monitor = found["ServiceMonitor/demo"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= found["Service/demo"]["metadata"]["labels"].items()
    assert monitor["endpoints"] == [{"port": "http", "path": "/metrics", "interval": "15s"}]


@pytest.mark.parametrize("worker", [False, True])
def test_no_pod_is_root_or_holds_a_secret_and_each_reads_the_database_from_one(worker: bool) -> None:
    for manifest in rendered(worker={"enabled": worker}, modelSecretName="bindu-model").values():
        if manifest["kind"] == "Service":
            continue
        pod = pod_of(manifest)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        [container] = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        url = next(entry for entry in container["env"] if entry["name"] == "STORAGE__POSTGRES_URL")
        assert url["valueFrom"]["secretKeyRef"] == {"name": "bindu-postgres", "key": "url"}
        assert container["envFrom"] == [{"secretRef": {"name": "bindu-model"}}]
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        assert mounted == {volume["name"] for volume in pod.get("volumes", [])}


@pytest.mark.parametrize(
    "wrong", [{"serve": {"replica": 3}}, {"settings": {"STORAGE__POSTGRES_URL": "x"}}, {"tain": {}}]
)
def test_a_misspelt_value_or_a_secret_among_the_settings_is_refused(wrong: dict[str, Any]) -> None:
    with helm.Chart.load(str(CHART)) as chart:
        chart.validate_schema(chart.merge_values({}))
        with pytest.raises(helm.HelmError):
            chart.validate_schema(chart.merge_values(wrong))


def test_the_charts_commands_are_ours() -> None:
    manifests = [*rendered().values(), *rendered(worker={"enabled": True}).values()]
    lines = [c["args"] for m in manifests if m["kind"] not in ("Service",) for c in pod_of(m)["containers"]]
    assert sorted({words[0] for words in lines}) == ["canary", "db", "serve", "train", "worker"]
    assert [words for words in lines if not understood(words)] == []


def test_all_recipes_keep_the_same_schedule() -> None:
    manifests = rendered()
    cron = sorted(" ".join(line.split()[:5]) for line in crontab_lines())
    chart = sorted(m["spec"]["schedule"] for m in manifests.values() if m["kind"] == "CronJob")
    worker = WorkerSettings()
    assert cron == chart == sorted((worker.train, worker.canary))
