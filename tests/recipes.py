"""The files of deploy/, read as their own programs do, and the commands of ours in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from bindu.dspy.cli.app import app

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm/bindu-dspy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def documents(path: Path) -> list[Any]:
    """The documents of a YAML file."""
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def unit(path: Path) -> dict[str, dict[str, list[str]]]:
    """A unit file's sections; a key may stand there more than once."""
    sections: dict[str, dict[str, list[str]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, value = line.split("=", 1)
            section.setdefault(key, []).append(value)
    return sections


def compose() -> dict[str, Any]:
    """The compose file."""
    [found] = documents(DEPLOY / "compose/compose.yaml")
    return dict(found)


def crontab_lines() -> list[str]:
    """The lines that run something."""
    text = (DEPLOY / "cron/bindu-dspy.cron").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if re.match(r"[0-9*]", line)]


def rendered(**values: Any) -> dict[str, dict[str, Any]]:
    """The chart's manifests by kind and name, by Helm itself; NOTES.txt apart."""
    helm = pytest.importorskip("helm_python", reason="pip install helm-python-sdk")
    with helm.Chart.load(str(CHART)) as chart:
        files = chart.render(values, name="demo", namespace="prod")
    manifests = [
        manifest
        for name, text in files.items()
        if name.endswith(".yaml")
        for manifest in yaml.safe_load_all(text)
        if manifest
    ]
    return {f"{manifest['kind']}/{manifest['metadata']['name']}": manifest for manifest in manifests}


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """The pod that a manifest makes."""
    spec = manifest["spec"]
    spec = spec["jobTemplate"]["spec"] if manifest["kind"] == "CronJob" else spec
    return dict(spec["template"]["spec"])


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every ``bindu`` command line of the recipes that need no Helm, with where it is."""
    for path in UNITS:
        service = unit(path)["Service"]
        for line in (*service["ExecStart"], *service.get("ExecStartPre", [])):
            program, *words = shlex.split(line)
            assert program == "/opt/bindu/bin/bindu"
            yield path.name, words
    for line in crontab_lines():
        yield "bindu-dspy.cron", shlex.split(line.split(" 2>&1")[0].rsplit("bindu ", 1)[1])
    for name, service in compose()["services"].items():
        if service["image"] == "bindu-dspy":
            yield f"compose.yaml: {name}", service["command"]
    for path in (ROOT / "docs/how-to/deploy.md", *DEPLOY.rglob("*.md"), CHART / "templates/NOTES.txt"):
        for line in re.findall(
            r"(?m)(?:^[$#] |^|\| |-- |exec serve )bindu ([a-z][^|<\n]*)", path.read_text(encoding="utf-8")
        ):
            yield path.name, shlex.split(line, comments=True)


def understood(words: list[str]) -> bool:
    """Whether the command line takes the words: options are read before the help is shown."""
    return CliRunner().invoke(app, [*words, "--help"]).exit_code == 0
