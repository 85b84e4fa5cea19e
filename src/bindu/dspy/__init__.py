"""The improvement loop. Names load on first use, so that serving never imports DSPy."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bindu.dspy.canary.controller import run_canary_controller as run_canary_controller
    from bindu.dspy.collector import record_feedback as record_feedback
    from bindu.dspy.collector import record_task as record_task
    from bindu.dspy.dataset import build_golden_dataset as build_golden_dataset
    from bindu.dspy.dataset import convert_to_dspy_examples as convert_to_dspy_examples
    from bindu.dspy.errors import BinduError as BinduError
    from bindu.dspy.extractor import InteractionExtractor as InteractionExtractor
    from bindu.dspy.guard import ensure_system_stable as ensure_system_stable
    from bindu.dspy.insights import agent_status as agent_status
    from bindu.dspy.models import Interaction as Interaction
    from bindu.dspy.models import PromptCandidate as PromptCandidate
    from bindu.dspy.prompt_selector import refresh_prompts as refresh_prompts
    from bindu.dspy.prompt_selector import select_prompt_with_canary as select_prompt_with_canary
    from bindu.dspy.prompt_selector import stop_prompt_refresh as stop_prompt_refresh
    from bindu.dspy.prompts import bootstrap_prompt as bootstrap_prompt
    from bindu.dspy.prompts import get_active_prompt as get_active_prompt
    from bindu.dspy.prompts import get_candidate_prompt as get_candidate_prompt
    from bindu.dspy.storage import close_storage as close_storage
    from bindu.dspy.train import train_async as train_async

_HOMES = {
    "BinduError": "errors",
    "Interaction": "models",
    "InteractionExtractor": "extractor",
    "PromptCandidate": "models",
    "agent_status": "insights",
    "bootstrap_prompt": "prompts",
    "build_golden_dataset": "dataset",
    "close_storage": "storage",
    "convert_to_dspy_examples": "dataset",
    "ensure_system_stable": "guard",
    "get_active_prompt": "prompts",
    "get_candidate_prompt": "prompts",
    "record_feedback": "collector",
    "record_task": "collector",
    "refresh_prompts": "prompt_selector",
    "run_canary_controller": "canary.controller",
    "select_prompt_with_canary": "prompt_selector",
    "stop_prompt_refresh": "prompt_selector",
    "train_async": "train",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - one list of names, not two


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
