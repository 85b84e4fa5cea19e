"""What a search is given of the agent's past: texts that lost, a rubric that a person edited, how the gate did."""

from __future__ import annotations

from typing import Final

from bindu.dspy.champion import ORIGIN
from bindu.dspy.engine import CountingEngine
from bindu.dspy.errors import TrainingRefusedError
from bindu.dspy.gate import track_record
from bindu.dspy.models import JsonObject
from bindu.dspy.objective.learned import Learning
from bindu.dspy.orders import without_orders
from bindu.dspy.training.folder import Work
from bindu.dspy.training.job import Case
from bindu.dspy.training.search import Search
from bindu.settings import app_settings

__all__ = ["refuse_bad_record", "search_of"]

_NEWEST: Final = 10  # experiments that the gate is measured by


async def search_of(case: Case, work: Work, engine: CountingEngine, details: JsonObject) -> Search:
    """The search for a better prompt; it tells ``details`` what it finds.

    A deprecated prompt was active once, as was a champion that came back: users and rivals change, and it has to win
    again. Another rolled back one lost its trial; only a person may pardon it, by making it deprecated.
    """
    job, storage, prompt = case.job, case.storage, case.serving.active.text
    training = job.settings.training
    barred = await storage.barred_texts(job.agent_id)
    prompts = await storage.prompts(job.agent_id)
    lost = {one.text for one in prompts if one.status == "rolled_back" and one.origin != ORIGIN}
    standing = await storage.standing_rubric(job.agent_id)
    record = details.__setitem__
    own = job.optimizer.objective is not None or job.objective not in ("judge", "reward_model")
    heard = work.split if own else without_orders(work.split)
    if standing is not None:
        record("rubric_edited", standing.id)
    learning = Learning(
        engine=engine,
        prompt=prompt,
        split=work.split,
        heard=heard,
        edited=None if standing is None else standing.rules,
        settings=training,
        seed=job.seed,
        record=record,
    )
    return Search(
        prompt=prompt,
        split=work.split,
        heard=heard,
        optimizer=job.optimizer,
        objective=job.objective,
        learning=learning,
        engine=engine,
        seed=job.seed,
        rolled_back=sorted(lost - {one.text for one in barred}),
        barred=barred,
        similar=app_settings.dspy.canary.similar_text,
        margin=training.accept_margin,
        fewest=training.min_accept_conversations,
        record=record,
    )


async def refuse_bad_record(case: Case) -> JsonObject:
    """How often the gate was right of late. Raises TrainingRefusedError when it was wrong too often."""
    found = track_record(await case.storage.gate_record(case.job.agent_id, limit=_NEWEST))
    least = case.job.settings.training.min_agreement
    if found.known >= found.NEEDED and found.agreement < least:
        raise TrainingRefusedError(
            f"Of the last {found.known} candidates that training expected to be better, users found {found.agreed} "
            f"better, less than {least:.0%}. Its proof cannot be trusted. Nothing was spent or deployed. Look at the "
            "rubric (bindu dataset rubric) and the judge, then set DSPY__TRAINING__MIN_AGREEMENT lower to try again.",
            cause="gate_disagrees",
        )
    return found.as_json()
