"""What a run works on: the agent's examples, no rater too loud among them, split in three."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass

from bindu.dspy.dataset import build_dataset
from bindu.dspy.injection import without_injections
from bindu.dspy.models import Dataset, Interaction, JsonObject
from bindu.dspy.optimizer import Optimizer
from bindu.dspy.splits import Conversation, Split, conversations_of, count, refuse_too_few, split_or_refuse
from bindu.dspy.strategies import BaseExtractionStrategy
from bindu.dspy.support import cap_raters, fair_share
from bindu.dspy.training.folder import Work
from bindu.dspy.training.job import Case
from bindu.settings import DspySettings, TrainingSettings

__all__ = ["Heard", "dataset_sentence", "examples_of", "heard_examples", "split_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """The golden dataset, and what the guards leave of it."""

    dataset: Dataset
    conversations: list[Conversation]
    counts: dict[str, int]  # as a run records them


async def examples_of(case: Case, record: JsonObject) -> Work:
    """Read, count and split; what was counted is told to ``record`` even when it is too little.

    Raises TrainingRefusedError before anything is spent.
    """
    job = case.job
    heard = await heard_examples(
        job.agent_id,
        job.strategy,
        job.settings,
        require_feedback=job.require_feedback,
        corrected_only=job.objective == "correction",
    )
    record["funnel"], record["counts"] = asdict(heard.dataset.funnel), heard.counts
    spent = await case.storage.spent_conversations(job.agent_id)
    split = split_of(heard, job.optimizer, job.settings.training, spent)
    record["split"] = {
        "train": len(split.train),
        "select": len(split.select),
        "accept": len(split.accept),
        "raters_whole": split.raters_whole,
    }
    return Work(split, {name: record[name] for name in ("funnel", "counts", "split")})


async def heard_examples(
    agent_id: str,
    strategy: BaseExtractionStrategy | str,
    settings: DspySettings,
    *,
    require_feedback: bool,
    corrected_only: bool = False,
) -> Heard:
    """Each example once, without injections and without what one rater says too often. Raises as ``build_dataset``."""
    dataset = await build_dataset(None, strategy, require_feedback, settings.min_feedback_threshold, agent_id=agent_id)
    once: dict[object, Interaction] = {(row.id, row.window): row for row in (*dataset.golden, *dataset.failures)}
    rows = [row for row in once.values() if row.correction or not corrected_only]
    trusted = without_injections(rows)
    heard = cap_raters(trusted, share=fair_share(trusted, settings.training.max_rater_share))
    conversations = conversations_of(heard)
    left_out = {"injected": len(rows) - len(trusted), "over_rater_share": len(trusted) - len(heard)}
    return Heard(dataset=dataset, conversations=conversations, counts=count(dataset, conversations) | left_out)


def split_of(heard: Heard, optimizer: Optimizer, training: TrainingSettings, spent: Collection[str]) -> Split:
    """Raises TrainingRefusedError when it is too little."""
    refuse_too_few(
        heard.counts,
        scored_conversations=training.min_scored_conversations,
        failures=training.min_failures,
        raters=training.min_raters,
    )
    return split_or_refuse(
        heard.conversations,
        fewest=training.min_accept_conversations,
        select=training.select_size,
        train_rows=optimizer.min_rows,
        optimizer=optimizer.name,
        spent=spent,
    )


def dataset_sentence(record: JsonObject) -> str:
    """What was read and how it is split, for people."""
    funnel, split = record["funnel"], record["split"]
    dropped = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in sorted(funnel["drops"].items()))
    return (
        f"{funnel['tasks']:,} tasks became {funnel['golden']:,} golden examples and {funnel['failures']:,} failures "
        f"({dropped or 'none dropped'}): {split['train']} conversations teach, {split['select']} choose, "
        f"{split['accept']} prove."
    )
