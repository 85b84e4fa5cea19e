"""What a training run was asked for, validated before anything is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from hashlib import sha256
from importlib.metadata import version
from typing import Any
from uuid import UUID

from bindu.dspy.engine import InnerEngine
from bindu.dspy.errors import UnknownStrategyError
from bindu.dspy.models import Serving
from bindu.dspy.objective import OBJECTIVES, Metric, ObjectiveName
from bindu.dspy.optimizer import Optimizer
from bindu.dspy.storage import Storage
from bindu.dspy.strategies import BaseExtractionStrategy, LastTurnStrategy, parse_strategy
from bindu.settings import DspySettings

__all__ = ["Case", "Job", "Limits", "objective_named", "strategy_named", "versions"]

_MODELS = ("default_model", "judge_model", "reflection_model", "gate_judge_model", "api_base")
_LASTING = ("accept_margin", "max_rater_share", "min_accept_conversations", "select_size", "uncalibrated")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call of ``run_training`` sets otherwise than the settings; None leaves theirs."""

    max_calls: int | None = None
    max_cost: float | None = None  # US dollars
    max_minutes: float | None = None
    accept_margin: float | None = None

    def applied(self, settings: DspySettings) -> DspySettings:
        """The settings with these in their place, validated like them."""
        given = {one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name) is not None}
        if not given:
            return settings
        changed = settings.model_copy(update={"training": settings.training.model_copy()})
        for name, limit in given.items():
            setattr(changed.training, name, limit)
        return changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run, before it begins."""

    agent_id: str
    optimizer: Optimizer
    strategy: BaseExtractionStrategy
    require_feedback: bool
    objective: ObjectiveName | Metric
    seed: int
    settings: DspySettings
    inner: InnerEngine | None = None  # plays all models
    now: datetime | None = None
    run_id: UUID | None = None
    resume: bool | None = None  # True: go on or refuse; False: begin anew; None: go on where one was left

    @property
    def objective_name(self) -> str:
        return self.objective if isinstance(self.objective, str) else f"callable {_name_of(self.objective)}"


@dataclass(frozen=True, slots=True)
class Case:
    """A job, and the agent as the run found it."""

    job: Job
    storage: Storage
    serving: Serving

    def fingerprint(self) -> str:
        """What makes two commands the same run: the same work on the same prompt by the same code."""
        job, settings = self.job, self.job.settings
        asked = {
            "agent": job.agent_id,
            "prompt": [self.serving.active.id, self.serving.active.text],
            "optimizer": _described(job.optimizer),
            "strategy": _described(job.strategy),
            "require_feedback": job.require_feedback,
            "threshold": settings.min_feedback_threshold,
            "limit": settings.max_interactions_query_limit,
            "objective": job.objective_name,
            "seed": job.seed,
            "models": [
                settings.default_model,
                settings.judge_model,
                settings.reflection_model,
                settings.gate_judge_model,
            ],
            "training": {name: getattr(settings.training, name) for name in _LASTING},
            "versions": versions(),
        }
        return sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Of what decides how a run goes."""
    return {name: version(name) for name in ("bindu-dspy", "dspy", "gepa")}


def strategy_named(strategy: BaseExtractionStrategy | str | None) -> BaseExtractionStrategy:
    """An object, or what ``parse_strategy`` reads; by default the last turn. Raises UnknownStrategyError."""
    if strategy is None or isinstance(strategy, str):
        return LastTurnStrategy() if strategy is None else parse_strategy(strategy)
    if not callable(getattr(strategy, "extract_all", None)):
        raise UnknownStrategyError(f"{strategy!r} is not a strategy. Inherit from BaseExtractionStrategy.")
    return strategy


def objective_named(objective: ObjectiveName | Metric) -> ObjectiveName | Metric:
    """One of our names, or a callable. Raises ValueError."""
    if not callable(objective) and objective not in OBJECTIVES:
        known = ", ".join(f"'{name}'" for name in OBJECTIVES)
        raise ValueError(f"Objective '{objective}' is unknown. Use {known} or a Python callable.")
    return objective


def _described(thing: object) -> dict[str, Any]:
    """A kind and its plain parameters; two that differ only in what cannot be compared count as the same."""
    found: dict[str, Any] = {"kind": f"{type(thing).__module__}.{type(thing).__qualname__}"}
    for name, value in sorted(_parameters(thing).items()):
        if isinstance(value, str | int | float | bool | tuple | list | dict | None):
            found[name] = value
        elif name.endswith("instance"):
            found[name] = _described(value)
        elif callable(value):
            found[name] = _name_of(value)
    return found


def _parameters(thing: object) -> Mapping[str, Any]:
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    return {name: getattr(thing, name) for name in slots if hasattr(thing, name)} | getattr(thing, "__dict__", {})


def _name_of(thing: object) -> str:
    kind = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{kind.__module__}.{kind.__qualname__}"
