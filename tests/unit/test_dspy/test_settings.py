"""Settings: precedence, spelling, and a reference that says what the code says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from bindu.settings import Settings

ROOT = Path(__file__).parents[3]


def leaves(model: type[BaseModel], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= leaves(kind, f"{prefix}{name.upper()}__")
        else:
            found[f"{prefix}{name.upper()}"] = field.default
    return found


def read(expression: str, *, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    code = f"from bindu.settings import app_settings as s; print({expression})"
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("DSPY__", "STORAGE__"))}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=clean | environment, capture_output=True, text=True, check=False
    )


def test_the_reference_lists_every_setting_with_its_default() -> None:
    text = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| ([^|]*?) ?\|", text, re.MULTILINE))
    code = {name: "" if default is None else str(default) for name, default in leaves(Settings).items()}
    assert rows == code


def test_the_environment_wins_over_the_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DSPY__AGENT_ID=file\nDSPY__MIN_FEEDBACK_THRESHOLD=0.4\n", encoding="utf-8")
    seen = read("s.dspy.agent_id, s.dspy.min_feedback_threshold", cwd=tmp_path, DSPY__AGENT_ID="environment")
    assert seen.stdout.strip() == "environment 0.4"


def test_a_misspelt_key_names_the_nearest(tmp_path: Path) -> None:
    seen = read("s.dspy", cwd=tmp_path, DSPY__DEFAULT_MODL="x")
    assert "DSPY__DEFAULT_MODL is not a setting. Did you mean DSPY__DEFAULT_MODEL?" in seen.stderr
    assert seen.returncode != 0


def test_a_misspelt_key_in_the_env_file_is_found_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DSPY__AGENTID=x\n", encoding="utf-8")
    assert "Did you mean DSPY__AGENT_ID?" in read("s.dspy", cwd=tmp_path).stderr


def test_a_foreign_storage_key_is_only_a_warning(tmp_path: Path) -> None:
    seen = read("s.storage.pool_size", cwd=tmp_path, STORAGE__TYPE="postgres")
    assert seen.stdout.strip() == "8"
    assert "STORAGE__TYPE is not a setting of bindu-dspy" in seen.stderr


@pytest.mark.parametrize("value", ["-1", "1.5", "many"])
def test_a_value_out_of_range_names_its_key(tmp_path: Path, value: str) -> None:
    seen = read("s.dspy", cwd=tmp_path, DSPY__MIN_FEEDBACK_THRESHOLD=value)
    assert "DSPY__MIN_FEEDBACK_THRESHOLD" in seen.stderr


def test_a_password_is_never_printed(tmp_path: Path) -> None:
    seen = read("repr(s), str(s.storage)", cwd=tmp_path, STORAGE__POSTGRES_URL="postgresql://me:hidden@db/x")
    assert "hidden" not in seen.stdout
    assert seen.returncode == 0


def test_a_section_may_be_given_as_json_and_broken_json_is_a_sentence(tmp_path: Path) -> None:
    assert read("s.dspy.canary.initial_share", cwd=tmp_path, DSPY__CANARY='{"initial_share": 0.2}').stdout == "0.2\n"
    broken = read("s.dspy", cwd=tmp_path, DSPY__CANARY="{")
    assert "SettingsError" in broken.stderr
    assert "Correct it in the environment" in broken.stderr
