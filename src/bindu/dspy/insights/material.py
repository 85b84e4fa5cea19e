"""What training would learn from and whether it would begin, told before anything is spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bindu.dspy.errors import ExperimentActiveError, NoActivePromptError, TrainingRefusedError
from bindu.dspy.guard import ensure_system_stable
from bindu.dspy.models import Dataset
from bindu.dspy.storage import agent_named, get_storage, serving_or_raise
from bindu.settings import app_settings

if TYPE_CHECKING:
    from bindu.dspy.optimizer import Optimizer
    from bindu.dspy.training.rows import Heard

__all__ = ["Material", "training_material"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """The golden dataset, what the guards of training leave of it, and how that would be split."""

    sentence: str
    optimizer: str
    dataset: Dataset
    counts: dict[str, int]  # as a training run records them
    needs: dict[str, int]  # of some of the counts
    split: dict[str, int] | None  # conversations; None when training would refuse
    refusal: str | None


async def training_material(
    strategy: str = "last_turn",
    *,
    require_feedback: bool = False,
    optimizer: str | None = None,
    agent_id: str | None = None,
) -> Material:
    """Build the dataset and ask the guards of ``bindu train`` what they think.

    ``optimizer`` is by default the worker's. Raises UnsupportedOptimizerError and what ``build_dataset`` raises.
    """
    from bindu.dspy.optimizer import resolve_optimizer  # noqa: PLC0415 - DSPy loads only where it is needed
    from bindu.dspy.training.rows import heard_examples  # noqa: PLC0415

    agent, settings = agent_named(agent_id), app_settings.dspy
    chosen = resolve_optimizer(optimizer or settings.worker.optimizer)
    heard = await heard_examples(agent, strategy, settings, require_feedback=require_feedback)
    split, refusal = await _split(agent, heard, chosen)
    training = settings.training
    return Material(
        sentence=_sentence(heard.dataset, split, refusal),
        optimizer=chosen.name,
        dataset=heard.dataset,
        counts=heard.counts,
        needs={
            "scored_conversations": training.min_scored_conversations,
            "failures": training.min_failures,
            "raters": training.min_raters,
        },
        split=split,
        refusal=refusal,
    )


async def _split(agent_id: str, heard: Heard, optimizer: Optimizer) -> tuple[dict[str, int] | None, str | None]:
    from bindu.dspy.training.rows import split_of  # noqa: PLC0415

    try:
        await serving_or_raise(agent_id)
        await ensure_system_stable(agent_id)
        spent = await (await get_storage()).spent_conversations(agent_id)
        split = split_of(heard, optimizer, app_settings.dspy.training, spent)
    except (ExperimentActiveError, NoActivePromptError, TrainingRefusedError) as refused:
        return None, str(refused)
    return {"train": len(split.train), "select": len(split.select), "accept": len(split.accept)}, None


def _sentence(dataset: Dataset, split: dict[str, int] | None, refusal: str | None) -> str:
    funnel = dataset.funnel
    read = f"{funnel.tasks:,} tasks give {funnel.golden:,} golden examples and {funnel.failures:,} failures."
    if split is None:
        return f"{read} Training would refuse. {refusal}"
    return (
        f"{read} Training would begin: {split['train']} conversations teach, {split['select']} choose, "
        f"{split['accept']} prove."
    )
