"""app_settings: the only reader of the environment.

Command line > environment > ``.env`` > defaults. Nested keys are joined by ``__``: ``DSPY__DEFAULT_MODEL``.
"""

import difflib
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

__all__ = [
    "ENV_FILE",
    "CanarySettings",
    "DspySettings",
    "Origin",
    "ProxySettings",
    "ServerSettings",
    "Setting",
    "Settings",
    "SettingsError",
    "StorageSettings",
    "TrainingSettings",
    "WorkerSettings",
    "agent_or_default",
    "app_settings",
    "every_setting",
    "forget_env_file",
    "has_variable",
    "ignored_keys",
]

ENV_FILE: Final = ".env"  # in the working directory

Origin = Literal["environment", ".env", "default"]


class SettingsError(ValueError):
    """A setting is misspelt or out of range."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="ignore", validate_assignment=True, allow_inf_nan=False)

    def __setattr__(self, name: str, value: Any) -> None:
        before = dict(self.__dict__)
        try:
            super().__setattr__(name, value)
        except ValidationError:  # pydantic keeps a value that only the section as a whole refuses
            self.__dict__.update(before)
            raise


class StorageSettings(_Section):
    """Where the data lives: any PostgreSQL >= 15, or ``embedded:`` for one of our own."""

    postgres_url: SecretStr | None = None
    pool_size: int = Field(default=8, ge=1, le=100)
    connect_timeout: float = Field(default=10.0, gt=0)  # seconds
    statement_cache_size: int = Field(default=100, ge=0)  # 0 for a PgBouncer that does not track prepared statements
    listen: bool = True  # one more connection, by which rollouts arrive at once


Share = Annotated[float, Field(ge=1e-9, le=1 - 1e-9)]  # shares have nine decimals
Alpha = Annotated[float, Field(ge=1e-9, le=0.5)]  # the chance of an error
Hours = Annotated[float, Field(ge=0, le=8766)]
Dollars = Annotated[float, Field(ge=0)]


class CanarySettings(_Section):
    """The rollout rule and its numbers, frozen in an experiment when it opens; ``Policy`` says what each one does.

    ``means`` is the specification's rule: 20 interactions, plain means, steps of 10 %.
    """

    rule: Literal["evidence", "means"] = "evidence"
    initial_share: Share = 0.10
    step: float = Field(default=0.1, ge=0.01, le=1)

    goal: Literal["better", "not_worse"] = "better"
    gain: float = Field(default=0.03, ge=0.001, lt=1)
    tolerance: float = Field(default=0.02, ge=0.001, lt=1)
    stated_gain: str = ""
    harm_margin: float = Field(default=0.0, ge=0, lt=1)
    alpha_win: Alpha = 0.05
    alpha_harm: Alpha = 0.10
    alpha_futility: Alpha = 0.10
    alpha_after_win: Alpha = 0.05

    window_feedback: int = Field(default=30, ge=1)
    max_window_hours: int = Field(default=24, ge=1, le=168)
    min_age_hours: Hours = 24.0
    max_age_days: float = Field(default=14.0, gt=0, le=365)
    longest_days: float = Field(default=90.0, gt=0, le=365)
    rater_hours: Hours = 24.0

    ramp_share: Share = 0.5
    floor_share: Share = 0.1
    ramp_hours: Hours = 2.0
    ramp_units: int = Field(default=20, ge=1)
    hold_at: float = Field(default=2.0, gt=1)
    back_at: float = Field(default=4.0, gt=1)
    settle_hours: Hours = 24.0
    settle_hold_at: float = Field(default=4.0, gt=1)

    alpha_mismatch: Alpha = 0.001
    alpha_feedback_mismatch: Alpha = 0.005
    alpha_guard: Alpha = 0.01
    guard_margin: float = Field(default=0.01, ge=0, lt=1)
    judge_share: float = Field(default=0.0, ge=0, le=1)  # of the answers, scored by the judge model

    similar_text: float = Field(default=0.9, gt=0, le=1)
    champion_promotions: int = Field(default=5, ge=0)  # 0 switches the champion off
    champion_days: float = Field(default=30.0, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.goal == "not_worse" and not self.stated_gain.strip():
            raise ValueError(
                "the goal 'not_worse' promotes prompts that may be a little worse. "
                "First say in DSPY__CANARY__STATED_GAIN what is gained by them"
            )
        if self.goal == "not_worse" and not self.champion_promotions:
            raise ValueError(
                "the goal 'not_worse' lets small losses add up unnoticed without a champion. "
                "Set DSPY__CANARY__CHAMPION_PROMOTIONS above 0"
            )
        if self.min_age_hours >= 24 * self.max_age_days:
            raise ValueError("no experiment could win: DSPY__CANARY__MIN_AGE_HOURS must end before MAX_AGE_DAYS")
        return self


class TrainingSettings(_Section):
    """What a training run may spend and what it must see before it opens an experiment."""

    min_scored_conversations: int = Field(default=100, ge=1)
    min_failures: int = Field(default=10, ge=0)
    min_raters: int = Field(default=5, ge=0)
    min_accept_conversations: int = Field(default=30, ge=2)
    accept_margin: float = Field(default=0.01, ge=0, le=1)
    min_calibration_answers: int = Field(default=60, ge=1)  # logged ones that the judge is tried on
    min_calibration_failures: int = Field(default=15, ge=1)  # of them, in the smaller class
    min_agreement: float = Field(default=0.6, ge=0, le=1)  # in sign, of what the gate predicted with what was seen
    select_size: int = Field(default=16, ge=4)
    max_rater_share: float = Field(default=0.1, gt=0, le=1)  # of the rows that teach, by one person
    uncalibrated: Literal["reward_model", "refuse"] = "reward_model"  # when the judge cannot be trusted
    max_calls: int = Field(default=15_000, ge=1)
    max_cost: float | None = Field(default=None, gt=0)  # US dollars; None means no limit
    max_minutes: float | None = Field(default=None, gt=0)  # of one process; None means no limit
    max_output_tokens: int = Field(default=4_096, ge=64)  # of one answer
    max_error_rate: float = Field(default=0.25, gt=0, le=1)
    num_threads: int = Field(default=8, ge=1)
    prices: dict[str, tuple[Dollars, Dollars]] = {}  # dollars per million tokens, in and out
    runs_folder: str = Field(default=".bindu/runs", min_length=1)
    seed: int = 0


class ServerSettings(_Section):
    """`bindu serve`: where it listens and what it takes."""

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8080, ge=0, le=65535)  # 0 takes a free one
    require_key: bool = False  # of programs on this machine too
    max_body: int = Field(default=2_000_000, ge=1_000)  # bytes of one request to the JSON API
    max_batch: int = Field(default=1_000, ge=1)  # tasks of one request
    rate_limit: str = "3000/second"  # per key, else per address
    browser_rate_limit: str = "60/minute"  # per token's rater and address: what browsers send
    token_hours: float = Field(default=24.0, gt=0, le=8766)  # that a feedback token is good for
    session_hours: float = Field(default=12.0, gt=0, le=8766)  # that a browser stays signed in to the dashboard
    origins: list[str] = ["*"]  # that browsers may send feedback from
    open_metrics: bool = False  # /metrics needs no key


class ProxySettings(_Section):
    """The OpenAI-compatible proxy of `bindu serve`."""

    upstream: str = Field(default="https://api.openai.com/v1", pattern=r"^https?://\S+$")  # any OpenAI-compatible base
    upstream_key: SecretStr | None = None  # None passes the caller's own on
    timeout: float = Field(default=600.0, gt=0)  # seconds of silence from upstream
    max_body: int = Field(default=50_000_000, ge=1_000)  # bytes of one request
    spool_folder: str = Field(default=".bindu/spool", min_length=1)  # exchanges wait here for the database
    spool_mb: int = Field(default=256, ge=1)  # when it is full, new exchanges are not recorded, and counted


class WorkerSettings(_Section):
    """`bindu worker`: the schedule without cron. Times are UTC."""

    train: str = "0 2 * * *"  # five fields as in a crontab; empty switches the job off
    canary: str = "0 * * * *"
    optimizer: str = "simba"
    strategy: str = "last_turn"
    require_feedback: bool = True
    lease_seconds: float = Field(default=30.0, ge=2, le=3600)  # after which another replica takes a silent one's job


class DspySettings(_Section):
    """Everything of the improvement loop."""

    agent_id: str = Field(default="default", min_length=1)
    default_model: str = "openai/gpt-4o-mini"
    api_base: str | None = None  # an OpenAI-compatible server; None means the provider's own
    api_key: SecretStr | None = None  # None means the provider's own variable, such as OPENAI_API_KEY
    reflection_model: str | None = None  # None means default_model
    judge_model: str | None = None  # None means default_model
    gate_judge_model: str | None = None  # judges for the proof; None means judge_model
    min_feedback_threshold: float = Field(default=0.0, ge=0, le=1)
    max_interactions_query_limit: int = Field(default=10_000, ge=1)
    canary: CanarySettings = Field(default_factory=CanarySettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    server: ServerSettings = Field(default_factory=ServerSettings)
    proxy: ProxySettings = Field(default_factory=ProxySettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)


class Settings(BaseSettings):
    """The whole tree; ``app_settings`` is its one instance."""

    model_config = SettingsConfigDict(
        env_nested_delimiter="__", env_file=ENV_FILE, extra="ignore", validate_assignment=True, case_sensitive=False
    )

    storage: StorageSettings = Field(default_factory=StorageSettings)
    dspy: DspySettings = Field(default_factory=DspySettings)


def _known_keys(model: type[BaseModel], prefix: str) -> Iterable[str]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}".upper()
        yield key  # a section's own name takes the whole section as JSON
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _known_keys(field.annotation, f"{key}__")


def _is_ours(key: str) -> bool:
    return key.startswith(("DSPY__", "STORAGE__"))


def _check_spelling(keys: Iterable[str]) -> None:
    known = list(_known_keys(Settings, ""))
    for key in sorted({key.upper() for key in keys}):
        if not _is_ours(key) or key in known:
            continue
        if key.startswith("STORAGE__"):  # Bindu itself shares this prefix
            logging.getLogger("bindu.settings").warning("%s is not a setting of bindu-dspy and is ignored", key)
            continue
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
        raise SettingsError(f"{key} is not a setting. Did you mean {near}?")


def _file_keys(env_file: str | None) -> list[str]:
    if env_file is None:
        return []
    try:
        return list(DotEnvSettingsSource(Settings, env_file=env_file).env_vars)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{env_file} cannot be read: {error}. Make it a UTF-8 text that you may read.") from None


def _load(env_file: str | None) -> Settings:
    _check_spelling([*os.environ, *_file_keys(env_file)])
    try:
        return Settings(_env_file=env_file)  # type: ignore[call-arg] # pydantic-settings takes it
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = "__".join(str(part) for part in first["loc"]).upper()
        raise SettingsError(f"{key}: {first['msg']}. Correct it in the environment or in .env.") from None
    except SourceError as error:  # a section that is not JSON
        raise SettingsError(f"{error}. Correct it in the environment or in .env.") from None


class _Lazy:
    """Reads the environment on first use, so that a wrong setting is a sentence and not a failed import."""

    _loaded: Settings | None = None
    _env_file: str | None = ENV_FILE

    def _settings(self) -> Settings:
        if _Lazy._loaded is None:
            _Lazy._loaded = _load(_Lazy._env_file)
        return _Lazy._loaded

    def __getattr__(self, name: str) -> Any:
        return getattr(self._settings(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._settings(), name, value)

    def __repr__(self) -> str:
        return repr(self._settings())


app_settings = cast("Settings", _Lazy())


def agent_or_default(agent_id: str | None) -> str:
    """The agent that a caller named, else DSPY__AGENT_ID."""
    return agent_id or app_settings.dspy.agent_id


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it is now, and who said so."""

    key: str  # as in the environment
    value: Any  # secrets stay wrapped
    origin: Origin


def every_setting() -> list[Setting]:
    """All settings in the order of the reference. Raises SettingsError."""
    now = app_settings.model_dump()
    file = DotEnvSettingsSource(Settings, env_file=_Lazy._env_file)
    given = {"environment": EnvSettingsSource(Settings)(), ".env": file()}
    return list(_settings(Settings, (), now, given))


def _settings(
    model: type[BaseModel], path: tuple[str, ...], now: dict[str, Any], given: dict[str, dict[str, Any]]
) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        here = (*path, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _settings(field.annotation, here, now, given)
            continue
        origin = next((origin for origin, said in given.items() if _at(said, here) is not _NOTHING), "default")
        yield Setting("__".join(here).upper(), _at(now, here), cast("Origin", origin))


_NOTHING: Final = object()


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if not isinstance(tree, dict) or name not in tree:
            return _NOTHING
        tree = tree[name]
    return tree


def forget_env_file() -> None:
    """Go on with the environment and the defaults alone. Raises SettingsError."""
    _Lazy._loaded, _Lazy._env_file = _load(None), None


def ignored_keys() -> list[str]:
    """What is set under ``STORAGE__`` and is no setting of ours: Bindu's, or misspelt. Raises SettingsError."""
    known = set(_known_keys(Settings, ""))
    keys = {key.upper() for key in (*os.environ, *_file_keys(ENV_FILE))}
    return sorted(key for key in keys - known if key.startswith("STORAGE__"))


def has_variable(name: str) -> bool:
    """Whether the environment holds something under that name, such as a provider's key."""
    return bool(os.environ.get(name, "").strip())
