"""What a run leaves behind: its rubric, where each new line came from, and the trial that it begins."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

from bindu.dspy.gate import GateVerdict
from bindu.dspy.lineage import lineage
from bindu.dspy.models import JsonObject, TrainingRun, Trial
from bindu.dspy.opening import told_at_opening, trial_policy
from bindu.dspy.rubric import Rubric
from bindu.dspy.splits import Split
from bindu.dspy.training.job import Case
from bindu.dspy.training.search import Choice
from bindu.settings import app_settings
from bindu.utils.logging import get_logger

__all__ = ["deploy", "keep_rubric", "proposal_told"]

logger = get_logger("bindu.dspy.train")


async def keep_rubric(case: Case, run_id: UUID, details: Mapping[str, object]) -> None:
    """Store the rules that a run induced; an edited rubric stands already."""
    stored = details.get("rubric")
    if not isinstance(stored, dict) or "rubric_edited" in details:
        return
    rubric = Rubric.from_json(stored)
    if rubric.rules:
        await case.storage.save_rubric(
            case.job.agent_id,
            rubric.rules,
            origin="induced",
            prompt_id=case.serving.active.id,
            run_id=run_id,
            actor="trainer",
            reason="Learned from what users said.",
            now=case.job.now,
        )


def proposal_told(case: Case, choice: Choice, split: Split, details: Mapping[str, object]) -> JsonObject:
    """What the record tells of the candidate: the difference, its lineage, and the conversations that will prove it."""
    active, candidate = case.serving.active.text, choice.candidate.text
    told: JsonObject = {"diff": _diff(active, candidate)}
    stored = details.get("rubric")
    if isinstance(stored, dict):
        comments = {str(row.id): row.comments for row in split.train_rows}
        found = lineage(active, candidate, Rubric.from_json(stored), comments)
        told["lineage"] = [one.as_json() for one in found]
    told["accept"] = sorted({name for one in split.accept for name in one.names})
    return told


async def deploy(case: Case, told: TrainingRun, choice: Choice, verdict: GateVerdict) -> TrainingRun:
    """Begin the trial and end the run, in one transaction. Raises what ``begin_trial`` does."""
    job, serving = case.job, case.serving
    share = app_settings.dspy.canary.initial_share
    policy = await trial_policy(job.agent_id, share, now=job.now)
    trial = Trial(
        agent_id=job.agent_id,
        text=choice.candidate.text,
        expected_version=serving.version,
        origin=job.optimizer.name,
        parent_id=serving.active.id,
        share=share,
        policy=policy,
        metadata={
            "run": str(told.id),
            "gain": verdict.gain,
            "train_score": choice.candidate.score,
            "select_score": choice.select_score,
        },
        run_id=told.id,
        reason=told_at_opening(verdict.reason, policy),
    )
    experiment = await case.storage.begin_trial(trial, now=job.now)
    logger.info("Prompt %d is on trial. %s", experiment.candidate_id, trial.reason)
    return replace(
        told,
        state="ended",
        outcome="improved",
        reason=verdict.reason,
        step=None,
        candidate_id=experiment.candidate_id,
        experiment_id=experiment.id,
        ended_at=experiment.started_at,
    )


def _diff(before: str, after: str) -> str:
    return "\n".join(difflib.unified_diff(before.splitlines(), after.splitlines(), "active", "candidate", lineterm=""))
