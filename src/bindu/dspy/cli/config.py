"""``bindu config``: the settings as they are, and what there is to set."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Final

import typer
from pydantic import SecretStr

from bindu.dspy.cli.output import JsonOption, emit, fail, table
from bindu.dspy.postgres.database import UNREADABLE, where
from bindu.dspy.postgres.embedded import folder_of
from bindu.setting_texts import meaning_of
from bindu.settings import Setting, Settings, SettingsError, every_setting

__all__ = ["app", "as_text", "setting_kinds", "settings_schema", "without_user"]

MASK: Final = "********"
_USER: Final = re.compile(r"(?<=://).+(?=@)", re.DOTALL)  # too much rather than half of a misspelt password

app = typer.Typer(help="Look at the settings.", no_args_is_help=True)


@app.command("show")
def show(
    origin: Annotated[
        bool, typer.Option("--origin", help="Say where each comes from: the environment, .env, or the default.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show every setting as it is now; secrets are masked.

    Example: bindu config show --origin
    """
    try:
        found = every_setting()
    except SettingsError as error:
        fail(error)
    columns = ("setting", "value", *(("from",) if origin else ()))
    rows = [(one.key, as_text(_shown(one)), *((one.origin,) if origin else ())) for one in found]
    told = [{"key": one.key, "value": _shown(one), **({"origin": one.origin} if origin else {})} for one in found]
    emit({"settings": told}, as_json=as_json, text=lambda: table(*columns, rows=rows))


@app.command("schema")
def schema(as_json: JsonOption = False) -> None:
    """List what can be set, with type, default and meaning; --json is the JSON Schema of all settings.

    Example: bindu config schema
    """
    described, kinds = settings_schema(), setting_kinds()
    rows = [
        (key, f"{kind}; default {as_text(default) or 'none'}\n{meaning_of(key)}")
        for key, (kind, default) in kinds.items()
    ]
    emit(described, as_json=as_json, text=lambda: table("setting", "type, default and meaning", rows=rows))


def settings_schema() -> dict[str, Any]:
    """The JSON Schema of the whole tree, each setting with its meaning and its name in the environment."""
    found = Settings.model_json_schema()
    for key, one in _leaves(found, found):
        one["description"] = meaning_of(key)
        one["x-env"] = key
    return found


def setting_kinds() -> dict[str, tuple[str, Any]]:
    """Of each setting, what it takes and its default, in the order of the reference."""
    found = Settings.model_json_schema()
    return {key: (_kind(one), one.get("default")) for key, one in _leaves(found, found)}


def as_text(value: Any) -> str:
    """As the environment takes it; nothing for None."""
    match value:
        case None:
            return ""
        case list() | dict():
            return json.dumps(value)
        case _:
            return str(value)


def without_user(text: str) -> str:
    """A URL with the user and the password masked; every other text as it is."""
    return _USER.sub(MASK, text, count=1)


def _shown(setting: Setting) -> Any:
    if isinstance(setting.value, str):
        return without_user(setting.value)
    if not isinstance(setting.value, SecretStr):
        return setting.value
    secret = setting.value.get_secret_value()
    if setting.key != "STORAGE__POSTGRES_URL" or not secret:
        return MASK if secret else ""
    place = where(secret)
    if place == UNREADABLE:  # what of it is the password cannot be told
        return MASK
    return secret if folder_of(secret) is not None else f"postgresql://{MASK}@{place}"


def _leaves(schema: dict[str, Any], root: dict[str, Any], prefix: str = "") -> list[tuple[str, dict[str, Any]]]:
    found = []
    for name, one in schema["properties"].items():
        key = f"{prefix}{name}".upper()
        if "$ref" in one:
            inner = root["$defs"][one["$ref"].rpartition("/")[2]]
            found += _leaves(inner, root, f"{key}__")
        else:
            found.append((key, one))
    return found


def _kind(one: dict[str, Any]) -> str:
    if "anyOf" in one:
        return " or ".join(_kind(each) for each in one["anyOf"] if each.get("type") != "null")
    if "enum" in one:
        return " or ".join(one["enum"])
    if one.get("format") == "password":
        return "secret"
    names: dict[str, str] = {
        "array": "JSON list",
        "object": "JSON object",
        "string": "text",
        "boolean": "True or False",
    }
    return names.get(one["type"], str(one["type"])) + _limits(one)


def _limits(one: dict[str, Any]) -> str:
    words = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    said = [f"{sign} {one[name]:.10g}" for name, sign in words.items() if name in one]
    return f" {', '.join(said)}" if said else ""
