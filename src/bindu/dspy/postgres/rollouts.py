"""Traffic moves here and nowhere else: each verb is one transaction, decided against one serving version."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import cast

from asyncpg import Record

from bindu.dspy.arguments import check_limit, checked_share
from bindu.dspy.errors import (
    ExperimentActiveError,
    InvalidPromptError,
    NoActivePromptError,
    RunCancelledError,
    StaleRolloutError,
    TrainingRefusedError,
    UnknownPromptError,
)
from bindu.dspy.housekeeping import AuditNote
from bindu.dspy.models import MACHINES, BandPoint, Decision, Experiment, Rollout, Trial
from bindu.dspy.postgres.audit import add_audit
from bindu.dspy.postgres.database import Connection, Database, is_number, one, row, rows
from bindu.dspy.postgres.notices import announce
from bindu.dspy.postgres.prompts import insert_prompt
from bindu.dspy.postgres.rows import clean, to_decision, to_experiment, to_json
from bindu.dspy.postgres.units import close_windows
from bindu.dspy.promptcheck import normalize_prompt
from bindu.dspy.units import Closing
from bindu.utils.version import code_version

__all__ = ["RolloutVerbs"]


_OnTrial = tuple[int | None, float, int | None]  # the candidate, its share, the experiment


class RolloutVerbs(Database):
    async def begin_trial(self, trial: Trial, *, now: datetime | None = None) -> Experiment:
        normalize_prompt(trial.text)
        trial = replace(trial, share=checked_share(trial.share))
        _check_live_share(trial.share)

        async def work(connection: Connection) -> Experiment:
            serving = await row(connection, "lock_serving", agent_id=trial.agent_id)
            active_id = await _check_trial(connection, trial, serving)
            candidate_id = await insert_prompt(
                connection,
                trial.agent_id,
                trial.text,
                origin=trial.origin,
                now=now,
                parent_id=trial.parent_id,
                metadata=trial.metadata,
            )
            experiment = await _open_experiment(connection, trial, active_id, candidate_id, now)
            on_trial = (candidate_id, trial.share, experiment.id)
            await _set_serving(connection, trial.agent_id, trial.expected_version, active_id, on_trial)
            await _log(connection, _opening(trial, experiment), now)
            if trial.actor not in MACHINES:
                await add_audit(connection, _begun(trial, experiment), now)
            await _end_run(connection, trial, experiment, now)
            return experiment

        return await self._transact(work)

    async def apply(self, rollout: Rollout, *, closing: Closing | None = None, now: datetime | None = None) -> Decision:
        if rollout.outcome is None:
            _check_live_share(rollout.share_after)

        async def work(connection: Connection) -> Decision:
            serving = await row(connection, "lock_serving", agent_id=rollout.agent_id)
            if (
                serving is None
                or serving["version"] != rollout.expected_version
                or serving["experiment_id"] != rollout.experiment_id
                or serving["candidate_share"] != rollout.share_before
            ):
                raise StaleRolloutError(rollout.agent_id)
            if closing is not None:
                await close_windows(connection, rollout.agent_id, rollout.experiment_id, closing)
            await _move(connection, rollout, serving, now)
            if rollout.actor not in MACHINES:
                await add_audit(connection, _ordered(rollout), now)
            return await _log(connection, rollout, now, None if closing is None else closing.window)

        return await self._transact(work)

    async def experiment(self, agent_id: str, experiment_id: int) -> Experiment | None:
        if not is_number(experiment_id):
            return None
        found = await self._row("experiment", agent_id=agent_id, experiment_id=experiment_id)
        return None if found is None else to_experiment(found)

    async def experiments(self, agent_id: str, *, limit: int = 100) -> list[Experiment]:
        check_limit(limit)
        return [to_experiment(found) for found in await self._rows("experiments", agent_id=agent_id, limit=limit)]

    async def decisions(
        self, agent_id: str, *, experiment_id: int | None = None, before: int | None = None, limit: int = 100
    ) -> list[Decision]:
        check_limit(limit)
        if any(number is not None and not is_number(number) for number in (experiment_id, before)):
            return []
        of = {"experiment_id": experiment_id, "before": before}
        found = await self._rows("decisions", agent_id=agent_id, limit=limit, **of)
        return [to_decision(decision) for decision in found]

    async def decision(self, agent_id: str, decision_id: int) -> Decision | None:
        if not is_number(decision_id):
            return None
        found = await self._row("decision", agent_id=agent_id, decision_id=decision_id)
        return None if found is None else to_decision(found)

    async def band(self, agent_id: str, experiment_id: int, *, limit: int) -> list[BandPoint]:
        check_limit(limit)
        found = await self._rows("band", agent_id=agent_id, experiment_id=experiment_id, limit=limit)
        return [BandPoint(**point) for point in found]


def _ordered(rollout: Rollout) -> AuditNote:
    """A person's word, as the audit trail keeps it beside the decision log."""
    return AuditNote(
        agent_id=rollout.agent_id,
        action=rollout.verdict,
        subject=f"experiment {rollout.experiment_id}",
        actor=rollout.actor,
        reason=rollout.reason,
        details={"share_before": rollout.share_before, "share_after": rollout.share_after, "outcome": rollout.outcome},
    )


def _begun(trial: Trial, experiment: Experiment) -> AuditNote:
    return AuditNote(
        agent_id=trial.agent_id,
        action="open",
        subject=f"experiment {experiment.id}",
        actor=trial.actor,
        reason=trial.reason,
        details={"candidate_id": experiment.candidate_id, "active_id": experiment.active_id, "share": trial.share},
    )


def _check_live_share(share: float) -> None:
    if not 0 < share <= 1:
        raise InvalidPromptError(
            f"A candidate on trial needs a share above 0 and at most 1, not {share}. To end the trial, give an outcome."
        )


async def _check_trial(connection: Connection, trial: Trial, serving: Record | None) -> int:
    """The active prompt's number, when the trial may begin."""
    if serving is None:
        raise NoActivePromptError(trial.agent_id)
    if serving["candidate_id"] is not None:
        raise ExperimentActiveError(serving["candidate_id"], serving["candidate_share"])
    if serving["version"] != trial.expected_version:
        raise StaleRolloutError(trial.agent_id)
    if serving["active_text"] == trial.text:
        raise InvalidPromptError(
            f"The candidate has the same text as the active prompt {serving['active_id']}; there is nothing to try."
        )
    parent = {"agent_id": trial.agent_id, "prompt_id": trial.parent_id}
    if not is_number(trial.parent_id) or await row(connection, "prompt", **parent) is None:
        raise UnknownPromptError(trial.agent_id, trial.parent_id)
    return cast("int", serving["active_id"])


async def _open_experiment(
    connection: Connection, trial: Trial, active_id: int, candidate_id: int, now: datetime | None
) -> Experiment:
    opened = await one(
        connection,
        "insert_experiment",
        agent_id=trial.agent_id,
        active_id=active_id,
        candidate_id=candidate_id,
        policy=to_json(trial.policy),
        now=now,
    )
    return to_experiment(opened)


def _opening(trial: Trial, experiment: Experiment) -> Rollout:
    """What ``begin_trial`` does to the traffic, as the decision log tells it."""
    return Rollout(
        agent_id=trial.agent_id,
        experiment_id=experiment.id,
        expected_version=trial.expected_version,
        verdict="open",
        share_before=0.0,
        share_after=trial.share,
        reason=trial.reason or f"Prompt {experiment.candidate_id} goes on trial with {trial.share:.0%} of traffic.",
        rule=str(trial.policy.get("rule", "means")),
        rule_version=int(trial.policy.get("rule_version", 1)),
        actor=trial.actor,
    )


async def _end_run(connection: Connection, trial: Trial, experiment: Experiment, now: datetime | None) -> None:
    run_id = trial.run_id
    if run_id is None:
        return
    ended = await row(
        connection,
        "improve_run",
        agent_id=trial.agent_id,
        run_id=run_id,
        candidate_id=experiment.candidate_id,
        experiment_id=experiment.id,
        now=now,
    )
    if ended is not None:
        return
    run = await row(connection, "runs_between", agent_id=trial.agent_id, first_id=run_id, last_id=run_id, limit=1)
    if run is not None and run["state"] == "running":
        raise RunCancelledError(run["cancel_reason"])
    raise TrainingRefusedError(
        f"Training run {run_id} of agent '{trial.agent_id}' is not running any more; nothing was deployed. "
        f"'bindu runs show {run_id}' says how it ended."
    )


async def _move(connection: Connection, rollout: Rollout, serving: Record, now: datetime | None) -> None:
    agent_id, experiment_id, candidate_id = rollout.agent_id, rollout.experiment_id, serving["candidate_id"]
    if rollout.share_after != serving["candidate_share"]:
        await rows(connection, "next_epoch", agent_id=agent_id, experiment_id=experiment_id)
    if rollout.paused is not None:
        paused = {"paused": rollout.paused, "experiment_id": experiment_id}
        await rows(connection, "pause_experiment", agent_id=agent_id, **paused)
    active_id: int = serving["active_id"]
    on_trial: _OnTrial = (candidate_id, rollout.share_after, experiment_id)
    if rollout.outcome is not None:
        promoted = rollout.outcome == "promoted"
        loser_id, status = (active_id, "deprecated") if promoted else (candidate_id, "rolled_back")
        await rows(connection, "set_prompt_status", agent_id=agent_id, prompt_id=loser_id, status=status)
        await rows(
            connection,
            "end_experiment",
            agent_id=agent_id,
            experiment_id=experiment_id,
            outcome=rollout.outcome,
            reason=clean(rollout.reason),
            now=now,
        )
        active_id, on_trial = (candidate_id if promoted else active_id), (None, 0.0, None)
    await _set_serving(connection, agent_id, rollout.expected_version, active_id, on_trial)


async def _set_serving(
    connection: Connection,
    agent_id: str,
    expected_version: int,
    active_id: int,
    on_trial: _OnTrial,
) -> None:
    candidate_id, share, experiment_id = on_trial
    moved = await row(
        connection,
        "set_serving",
        agent_id=agent_id,
        expected_version=expected_version,
        active_id=active_id,
        candidate_id=candidate_id,
        candidate_share=share,
        experiment_id=experiment_id,
    )
    if moved is None:
        raise StaleRolloutError(agent_id)
    await announce(connection, agent_id)


async def _log(
    connection: Connection, rollout: Rollout, now: datetime | None, closed_window: int | None = None
) -> Decision:
    logged = await one(
        connection,
        "insert_decision",
        agent_id=rollout.agent_id,
        experiment_id=rollout.experiment_id,
        verdict=rollout.verdict,
        share_before=rollout.share_before,
        share_after=rollout.share_after,
        reason=clean(rollout.reason),
        inputs=to_json(rollout.inputs),
        evidence=to_json(rollout.evidence),
        rule=rollout.rule,
        rule_version=rollout.rule_version,
        code_version=code_version(),
        actor=rollout.actor,
        now=now,
        closed_window=closed_window,
    )
    return to_decision(logged)
