"""The optional judge: a model scores a sample of the answers, and is not told which prompt gave them.

It is one guardrail among others. Whatever happens to the model, the canary goes on without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from bindu.dspy.decision import policy_of
from bindu.dspy.extractor import clean_messages
from bindu.dspy.models import Experiment, JsonObject, Rollout
from bindu.dspy.routing import LINE, salt_of
from bindu.dspy.storage import Storage
from bindu.dspy.units import Closing
from bindu.settings import app_settings
from bindu.utils.logging import get_logger

if TYPE_CHECKING:
    from bindu.dspy.engine import InnerEngine

__all__ = ["MOST_JUDGED", "exchange_of", "judge_arrivals", "sampled"]

MOST_JUDGED = 200  # units per run
_NEWEST_RUNS = 10  # among them is the one of the candidate on trial: until its trial ends, none can begin

logger = get_logger("bindu.dspy.canary.judging")


async def judge_arrivals(
    storage: Storage, rollout: Rollout, closing: Closing | None, *, engine: InnerEngine | None = None
) -> bool:
    """Let the judge score a sample of the units that a decision is about to take in, and keep the scores.

    True when there are new ones, so that the decision has to be taken again. No model is asked when the experiment
    is not judged, or when the decision is to stop: that does not wait.
    """
    share = app_settings.dspy.canary.judge_share
    if closing is None or not share or rollout.share_after == 0:
        return False
    experiment = await storage.experiment(rollout.agent_id, rollout.experiment_id)
    if experiment is None or not policy_of(experiment.policy).judged:
        return False
    arrived = (unit_id for unit_id, _ in closing.firsts if unit_id not in closing.judged)
    chosen = sampled(arrived, experiment, share)[:MOST_JUDGED]
    scores = await _scores(storage, experiment, chosen, engine)
    await storage.set_judged(experiment.agent_id, experiment.id, scores)
    return bool(scores)


def sampled(unit_ids: Iterable[str], experiment: Experiment, share: float) -> list[str]:
    """The units that are judged at a share in [0, 1]: by a hash that knows neither arm nor answer, lowest first.

    So every controller chooses the same ones, and whoever stops in the middle has judged a smaller share.
    """
    salt = salt_of(experiment.agent_id, experiment.id, b"judge")

    def place(unit_id: str) -> int:
        hashed = salt.copy()
        hashed.update(unit_id.encode("utf-8", "surrogatepass"))
        return int.from_bytes(hashed.digest())

    places = {unit_id: place(unit_id) for unit_id in unit_ids}
    return sorted((unit_id for unit_id in places if places[unit_id] < share * LINE), key=lambda one: (places[one], one))


def exchange_of(history: Sequence[JsonObject]) -> tuple[str, str] | None:
    """The last question of a history and its answer, empty when there is none; None without a question."""
    said = [(message["role"], message["content"]) for message in clean_messages(history)]
    asked = [place for place, (role, _) in enumerate(said) if role == "user"]
    if not asked:
        return None
    answers = [text for role, text in said[asked[-1] :] if role == "assistant"]
    return said[asked[-1]][1], answers[-1] if answers else ""


async def _scores(
    storage: Storage, experiment: Experiment, unit_ids: Sequence[str], engine: InnerEngine | None
) -> dict[str, float]:
    """No answer scores 0, as it does in training; a unit without a question, or whose task is gone, none."""
    histories = await storage.first_answers(experiment.agent_id, experiment.id, unit_ids)
    found = {unit_id: exchange_of(histories[unit_id]) for unit_id in unit_ids if unit_id in histories}
    exchanges = {unit_id: exchange for unit_id, exchange in found.items() if exchange is not None}
    answered = {unit_id: exchange for unit_id, exchange in exchanges.items() if exchange[1]}
    scores = dict.fromkeys(exchanges.keys() - answered.keys(), 0.0)
    if answered:
        scores |= await _asked(answered, await _rubric(storage, experiment), engine)
    return scores


async def _rubric(storage: Storage, experiment: Experiment) -> JsonObject:
    """What the candidate was trained for, else what the active prompt asks for."""
    for run in await storage.runs(experiment.agent_id, limit=_NEWEST_RUNS):
        if run.experiment_id == experiment.id and "rubric" in run.details:
            rubric: JsonObject = run.details["rubric"]
            return rubric
    active = await storage.prompt(experiment.agent_id, experiment.active_id)
    return {"instructions": "" if active is None else active.text, "rules": []}


async def _asked(
    answered: Mapping[str, tuple[str, str]], rubric: JsonObject, engine: InnerEngine | None
) -> dict[str, float]:
    try:
        await asyncio.to_thread(import_module, "bindu.dspy.canary.asking")  # seconds, for which no request must wait
        from bindu.dspy.canary.asking import ask_judge  # noqa: PLC0415 - needs DSPy, which serving installs lack
    except ModuleNotFoundError as error:
        logger.warning(
            "No answer was judged: %s is not installed. Run pip install 'bindu-dspy[train]', or set "
            "DSPY__CANARY__JUDGE_SHARE to 0. The canary goes on without a judge.",
            error.name,
        )
        return {}
    scores, problem = await ask_judge(answered, rubric, engine)
    if problem is not None:
        logger.warning(
            "The judge scored %d of %d sampled answers. %s The canary goes on without the others.",
            len(scores),
            len(answered),
            problem,
        )
    return scores
