"""A user's optimizer as a run uses it: a copy, whose models speak through our door."""

from __future__ import annotations

import copy
from typing import Any, Final

import dspy
from dspy.clients.base_lm import BaseLM
from dspy.teleprompt.teleprompt import Teleprompter

from bindu.dspy.engine import CountingEngine
from bindu.dspy.engine.speakers import Role
from bindu.dspy.errors import UnsupportedOptimizerError

__all__ = ["copied", "refuse_uncounted"]

_ROLES: Final[dict[str, Role]] = {"prompt_model": "reflector", "reflection_lm": "reflector", "task_model": "agent"}
_TEACHER: Final = "teacher_settings"  # who answers in the agent's place, to show how


def refuse_uncounted(instance: Teleprompter) -> None:
    """Raise UnsupportedOptimizerError for a language model whose calls cannot go through our door."""
    for found in (*vars(instance).values(), _teacher(instance).get("lm")):
        if isinstance(found, BaseLM) and not isinstance(found, dspy.LM):
            raise UnsupportedOptimizerError(
                f"Optimizer '{type(instance).__name__}' is not supported: it brings a model of the class "
                f"{type(found).__name__}, whose calls nobody could count. Give it a dspy.LM, which may have an engine "
                "of your own: dspy.LM(..., engine=...)."
            )


def copied(instance: Teleprompter, engine: CountingEngine) -> Any:
    """A copy whose models are asked by the engine: those that the user gave, and ours where none was given."""
    ready: Any = copy.copy(instance)
    for name, given in vars(instance).items():
        role = _ROLES.get(name, "reflector")
        if isinstance(given, dspy.LM):
            setattr(ready, name, engine.adopt(given, role))
        elif given is None and name in _ROLES:
            setattr(ready, name, engine.lm(role))
    teacher = _teacher(instance)
    if isinstance(teacher.get("lm"), dspy.LM):
        ready.teacher_settings = {**teacher, "lm": engine.adopt(teacher["lm"], "agent")}
    return ready


def _teacher(instance: Teleprompter) -> dict[str, Any]:
    return getattr(instance, _TEACHER, None) or {}
