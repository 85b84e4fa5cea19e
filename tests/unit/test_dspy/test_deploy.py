"""The recipes of deploy/: every file is read as its own program would, every command is one of ours."""

import configparser
import json
import re
import shutil
import subprocess
import sys
import tomllib
from datetime import datetime
from pathlib import Path

import pytest
from cronsim import CronSim

from bindu.settings import Settings, _known_keys
from recipes import DEPLOY, ROOT, UNITS, commands, compose, crontab_lines, understood, unit

OUR_KEYS = set(_known_keys(Settings, ""))
SERVICE_KEYS = {"image", "build", "environment", "read_only", "tmpfs", "cap_drop", "security_opt", "volumes", "command"}
SERVICE_KEYS |= {"healthcheck", "restart", "depends_on", "ports", "stop_grace_period", "profiles"}


@pytest.mark.parametrize(("where", "words"), [pytest.param(*found, id=" ".join(found[1])) for found in commands()])
def test_a_recipes_command_is_one_that_we_have_with_options_that_it_takes(where: str, words: list[str]) -> None:
    assert understood(words), where


@pytest.mark.parametrize("line", ["train --optimiser simba", "canary walk", "sell", "canary run --fast"])
def test_a_command_that_we_do_not_have_would_be_found(line: str) -> None:
    assert not understood(line.split())


def test_the_crontab_has_two_lines_that_cron_takes_with_a_user_and_a_settings_folder() -> None:
    text = (DEPLOY / "cron/bindu-dspy.cron").read_text(encoding="utf-8")
    assert text.endswith("\n")  # cron ignores a last line without it
    now = datetime(2026, 3, 1, 12, 30)  # noqa: DTZ001 - a crontab knows no zones
    times = []
    for line in crontab_lines():
        *fields, user, command = line.split(maxsplit=6)
        assert user == "bindu"
        assert command.startswith("cd /srv/bindu && ")
        assert "%" not in command  # a newline to cron
        times.append(next(CronSim(" ".join(fields), now)))
    assert times == [now.replace(hour=13, minute=0), now.replace(day=2, hour=2, minute=0)]


@pytest.mark.parametrize("code", [0, 3])
def test_the_crontab_logs_what_is_printed_and_mails_only_that_a_command_failed(code: int, tmp_path: Path) -> None:
    for name, does in (("bindu", f"echo $1 said >&2; exit {code}"), ("logger", 'cat >> "$2.log"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    text = (DEPLOY / "cron/bindu-dspy.cron").read_text(encoding="utf-8")
    [shell] = re.findall(r"(?m)^SHELL=(.*)$", text)
    assert re.search(r"(?m)^MAILTO=\S", text)
    for line, name in zip(crontab_lines(), ("canary", "train"), strict=True):
        command = line.split(maxsplit=6)[6].replace("/srv/bindu", str(tmp_path))
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        done = subprocess.run([shell, "-c", command], env=environment, capture_output=True, text=True, check=False)
        mail = done.stdout + done.stderr
        assert (mail.startswith(f"bindu {name} failed"), mail == "") == (code != 0, code == 0)
        assert (tmp_path / f"bindu-{name}.log").read_text(encoding="utf-8") == f"{name} said\n"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_service_is_an_unprivileged_user_that_writes_only_its_own_folder(path: Path) -> None:
    service = unit(path)["Service"]
    assert service["DynamicUser"] == ["yes"]
    assert service["ProtectSystem"] == ["strict"]
    assert service["CapabilityBoundingSet"] == [""]
    assert service["WorkingDirectory"] == [f"/var/lib/{service['StateDirectory'][0]}"]
    assert service["EnvironmentFile"] == ["/etc/bindu/bindu.env"]


def test_each_timer_starts_a_service_that_waits_for_it() -> None:
    timers = sorted((DEPLOY / "systemd").glob("*.timer"))
    assert [timer.stem for timer in timers] == ["bindu-canary", "bindu-train"]
    for timer in timers:
        service = unit(timer.with_suffix(".service"))
        assert service["Service"]["Type"] == ["oneshot"]  # which does not overlap with itself
        assert "Install" not in service
        parser = configparser.ConfigParser()
        parser.read(timer)
        assert parser["Timer"]["Persistent"] == "yes"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not on this machine")
def test_systemd_takes_the_units_and_finds_them_hardened(tmp_path: Path) -> None:
    for path in (DEPLOY / "systemd").glob("bindu-*"):
        text = path.read_text(encoding="utf-8").replace(
            "/opt/bindu/bin/bindu", str(Path(sys.executable).parent / "bindu")
        )
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    units = sorted(map(str, tmp_path.iterdir()))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    services = [name for name in units if name.endswith(".service")]
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", *services],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_compose_has_only_keys_and_volumes_that_exist_and_starts_things_in_order() -> None:
    services = compose()["services"]
    assert set(services) == {"postgres", "migrate", "serve", "worker", "prometheus", "grafana"}
    for name, service in services.items():
        assert set(service) <= SERVICE_KEYS, name
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            known = (DEPLOY / "compose" / source).exists() if source.startswith(".") else source in compose()["volumes"]
            assert known, volume
        for needed, condition in service.get("depends_on", {}).items():
            healthy = condition["condition"] == "service_healthy"
            assert not healthy or "healthcheck" in services[needed]
    assert services["serve"]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert [name for name, service in services.items() if "profiles" in service] == ["prometheus", "grafana"]
    assert (DEPLOY / "compose" / services["serve"]["build"]["context"]).resolve() == ROOT
    assert (ROOT / services["serve"]["build"]["dockerfile"]).is_file()


def test_compose_opens_ports_on_this_machine_only_and_gives_ours_no_rights() -> None:
    for service in compose()["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        if service["image"] == "bindu-dspy":
            assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])


def test_the_image_is_built_from_the_lock_file_and_does_not_run_as_root() -> None:
    text = (DEPLOY / "docker/Dockerfile").read_text(encoding="utf-8")
    _, build, final = text.split("\nFROM ")
    assert "uv sync --locked" in build
    assert re.search(r"^USER [1-9]\d+$", final, re.M)
    assert 'ENTRYPOINT ["bindu"]' in final
    [command] = re.findall(r"^CMD (.*)$", final, re.M)
    assert understood(json.loads(command))
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.M)
    assert all((ROOT / name).exists() for line in copied for name in line.split())
    extras = set(re.findall(r'^ARG EXTRAS="(.*)"', text, re.M)[0].split())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert extras <= set(project["optional-dependencies"])


def test_every_setting_that_a_recipe_names_exists() -> None:
    for path in (path for path in [*DEPLOY.rglob("*"), ROOT / "docs/how-to/deploy.md"] if path.is_file()):
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r"\b(?:DSPY|STORAGE)__[A-Z_]+[A-Z]", text)) <= OUR_KEYS, path.name


def test_no_recipe_holds_a_secret() -> None:
    named = re.compile(r"(?m)^\s*-?\s*\"?([A-Z_]*(?:PASSWORD|API_KEY|SECRET|TOKEN))\"?\s*[=:][ \t]*(\S+)")
    assert named.findall('  OPENAI_API_KEY: "sk-1"\nPOSTGRES_PASSWORD=\n') == [("OPENAI_API_KEY", '"sk-1"')]
    for path in (path for path in DEPLOY.rglob("*") if path.is_file()):
        for name, value in named.findall(path.read_text(encoding="utf-8")):
            assert value.startswith("${"), f"{path.name}: {name}"
