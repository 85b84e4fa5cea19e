"""What a run works on: the agent's examples, no rater too loud among them, split in three."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from bindu.dspy.dataset import build_dataset
from bindu.dspy.injection import without_injections
from bindu.dspy.models import Interaction, JsonObject
from bindu.dspy.splits import conversations_of, count, refuse_too_few, split_or_refuse
from bindu.dspy.support import cap_raters
from bindu.dspy.training.folder import Work
from bindu.dspy.training.job import Case, Job

__all__ = ["dataset_sentence", "examples_of"]

_AMONG_FEW: Final = 2.0


async def examples_of(case: Case, record: JsonObject) -> Work:
    """Read, count and split; what was counted is told to ``record`` even when it is too little.

    Raises TrainingRefusedError before anything is spent.
    """
    job, training = case.job, case.job.settings.training
    dataset = await build_dataset(
        None, job.strategy, job.require_feedback, job.settings.min_feedback_threshold, agent_id=job.agent_id
    )
    rows = _wanted(job, [*dataset.golden, *dataset.failures])
    trusted = without_injections(rows)
    heard = cap_raters(trusted, share=_share(trusted, training.max_rater_share))
    conversations = conversations_of(heard)
    record["funnel"] = asdict(dataset.funnel)
    record["counts"] = counts = count(dataset, conversations) | {
        "injected": len(rows) - len(trusted),
        "over_rater_share": len(trusted) - len(heard),
    }
    refuse_too_few(
        counts,
        scored_conversations=training.min_scored_conversations,
        failures=training.min_failures,
        raters=training.min_raters,
    )
    split = split_or_refuse(
        conversations,
        fewest=training.min_accept_conversations,
        select=training.select_size,
        train_rows=job.optimizer.min_rows,
        optimizer=job.optimizer.name,
        spent=await case.storage.spent_conversations(job.agent_id),
    )
    record["split"] = {
        "train": len(split.train),
        "select": len(split.select),
        "accept": len(split.accept),
        "raters_whole": split.raters_whole,
    }
    return Work(split, {name: record[name] for name in ("funnel", "counts", "split")})


def _share(rows: Sequence[Interaction], share: float) -> float:
    """Of the rows that one person may stand behind; among few people twice an equal part."""
    people = len({rater for row in rows for rater in row.raters}) or 1
    return min(1.0, max(share, _AMONG_FEW / people))


def dataset_sentence(record: JsonObject) -> str:
    """What was read and how it is split, for people."""
    funnel, split = record["funnel"], record["split"]
    dropped = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in sorted(funnel["drops"].items()))
    return (
        f"{funnel['tasks']:,} tasks became {funnel['golden']:,} golden examples and {funnel['failures']:,} failures "
        f"({dropped or 'none dropped'}): {split['train']} conversations teach, {split['select']} choose, "
        f"{split['accept']} prove."
    )


def _wanted(job: Job, rows: list[Interaction]) -> list[Interaction]:
    """Each once; for corrections as the objective only those that have one."""
    once = list({(row.id, row.window): row for row in rows}.values())
    return [row for row in once if row.correction] if job.objective == "correction" else once
