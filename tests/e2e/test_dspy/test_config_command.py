"""The settings as they are, who said so, and what there is to set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bindu.setting_texts import MEANINGS
from bindu.settings import Settings
from commands import bindu_at

URL = "postgresql://me:hidden@db.example:5433/desk"


def shown(folder: Path, *words: str, url: str = URL, **environment: str) -> dict[str, Any]:
    done = bindu_at(folder, url)("config", "show", *words, "--json", **environment)
    assert done.returncode == 0, done.stderr
    assert "hidden" not in done.stdout + done.stderr
    return {one["key"]: one for one in json.loads(done.stdout)["settings"]}


def test_each_setting_says_where_it_comes_from(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DSPY__AGENT_ID=file\nDSPY__CANARY__GAIN=0.04\nDSPY__API_KEY=hidden\n")
    found = shown(tmp_path, "--origin", DSPY__AGENT_ID="environment", DSPY__SERVER='{"port": 9}')
    assert list(found) == list(MEANINGS)
    told = {key: (one["value"], one["origin"]) for key, one in found.items()}
    assert told["DSPY__AGENT_ID"] == ("environment", "environment")
    assert told["DSPY__CANARY__GAIN"] == (0.04, ".env")
    assert told["DSPY__SERVER__PORT"] == (9, "environment")
    assert told["DSPY__CANARY__STEP"] == (0.1, "default")
    assert told["DSPY__API_KEY"] == ("********", ".env")
    assert told["STORAGE__POSTGRES_URL"] == ("postgresql://********@db.example:5433/desk", "environment")


def test_a_table_for_people_hides_secrets_too(tmp_path: Path) -> None:
    done = bindu_at(tmp_path, URL)("config", "show", "--origin", COLUMNS="140", DSPY__PROXY__UPSTREAM_KEY="hidden")
    assert "db.example:5433/desk" in done.stdout
    assert "hidden" not in done.stdout


def test_a_password_in_another_url_is_hidden_too(tmp_path: Path) -> None:
    urls = {
        "DSPY__API_BASE": "http://me:hid/hidden@b@models/v1",
        "DSPY__PROXY__UPSTREAM": "https://me:hidden@api.example/v1",
    }
    found = shown(tmp_path, **urls)
    assert found["DSPY__API_BASE"]["value"] == "http://********@models/v1"
    assert found["DSPY__PROXY__UPSTREAM"]["value"] == "https://********@api.example/v1"
    asked = bindu_at(tmp_path, "")("doctor", **urls)
    assert "http://********@models/v1" in asked.stdout
    assert "hid" not in asked.stdout + asked.stderr


def test_a_misspelt_url_is_not_shown_at_all(tmp_path: Path) -> None:
    found = shown(tmp_path, url="postgresql://me:hid@hidden@db/x")
    assert "hid" not in found["STORAGE__POSTGRES_URL"]["value"]


def test_the_schema_describes_every_setting(tmp_path: Path) -> None:
    schema = json.loads(bindu_at(tmp_path, "")("config", "schema", "--json").stdout)
    leaves = [one for group in schema["$defs"].values() for one in group.get("properties", {}).values()]
    assert {one["x-env"] for one in leaves if "x-env" in one} == set(MEANINGS)
    assert all(one["description"] for one in leaves if "x-env" in one)
    assert TypeAdapter(Settings).json_schema()["$defs"].keys() == schema["$defs"].keys()
    text = bindu_at(tmp_path, "")("config", "schema", COLUMNS="200").stdout
    assert all(key in text for key in MEANINGS)
