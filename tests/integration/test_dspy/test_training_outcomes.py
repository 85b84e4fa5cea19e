"""Whatever a model does wrong is an outcome of its own with one word for programs, and nothing goes on trial."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from dspy import lm15

from bindu.dspy.errors import BinduError, ModelUnavailableError, TrainingRefusedError
from bindu.dspy.models import TrainingRun
from bindu.dspy.objective import ObjectiveName
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.rubric import RubricRule
from bindu.dspy.simulation.desk import IDEAL_PROMPT, START_PROMPT
from bindu.dspy.simulation.engine import SimulatedEngine
from bindu.dspy.train import run_training
from bindu.settings import app_settings
from talks import Proposes, talk

ADDRESS = "Anna Berg, 12 Rose Lane, Springfield 62704"


def text_of(request: lm15.Request) -> str:
    return f"{request.system}\n{request.messages[-1].text}"


def said(request: lm15.Request, text: str) -> lm15.Response:
    usage = lm15.Usage(input_tokens=1, output_tokens=1)
    message = lm15.Message.assistant(text)
    return lm15.Response(id=None, model=request.model, message=message, finish_reason="stop", usage=usage)


class Odd:
    """A simulated model that does something odd, where it does: the request's text decides."""

    def __init__(self, odd: Callable[[str, int], str | Exception | None]) -> None:
        self._inner = SimulatedEngine(0)
        self._odd = odd
        self.calls = 0

    def complete(self, request: lm15.Request) -> lm15.Response:
        self.calls += 1
        found = self._odd(text_of(request), self.calls)
        if isinstance(found, Exception):
            raise found
        return self._inner.complete(request) if found is None else said(request, found)


def proposing(text: str) -> Callable[[str, int], str | None]:
    """Whoever asks for a new instruction gets this one."""
    return lambda asked, _: json.dumps({"new_instruction": text}) if "new_instruction" in asked else None


def dead(asked: str, number: int) -> Exception:
    return lm15.AuthError("no such key")


LEARNED = 6  # calls of the preflight and of five rubrics, none of which a run can do without


def half_dead(asked: str, number: int) -> Exception | None:
    return lm15.InvalidRequestError("fell over") if number > LEARNED and number % 2 else None


def stumbling(asked: str, number: int) -> Exception | None:
    return lm15.ServerError("503") if number > 3 and number % 2 else None


def echoing(asked: str, number: int) -> str:
    return asked


def flooding(asked: str, number: int) -> str:
    return "blah " * 10_000


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_settings.dspy.training, "num_threads", 1)
    monkeypatch.setattr("bindu.dspy.engine.counting._LONGEST_WAIT", 0.001)


CASES: list[tuple[Callable[[str, int], Any], str, str]] = [
    (dead, "aborted", "model_dead"),
    (half_dead, "aborted", "model_refuses"),
    (stumbling, "aborted", "model_failing"),
    (echoing, "aborted", "model_unreadable"),
    (flooding, "aborted", "model_unreadable"),
    (proposing(START_PROMPT + "\nBe nice." * 6_000), "unchanged", ""),  # nobody can heed 50 kB
    (proposing(f"{START_PROMPT}\nWrite to {ADDRESS}."), "refused", "prompt_names_customers"),
    (proposing(START_PROMPT), "unchanged", ""),
]


@pytest.mark.parametrize(("odd", "outcome", "cause"), CASES, ids=lambda one: getattr(one, "__name__", str(one)))
async def test_each_odd_model_has_an_outcome_of_its_own_and_opens_nothing(
    storage: PostgresStorage, odd: Callable[[str, int], Any], outcome: str, cause: str
) -> None:
    await talk(storage, 210)
    try:
        run = await run_training("gepa", engine=Odd(odd))
    except BinduError as error:
        run = error.run  # type: ignore[attr-defined]
    assert (run.outcome, run.details.get("cause", "")) == (outcome, cause)
    assert run.reason
    assert await storage.runs("default") == [run]
    serving = await storage.serving("default")
    assert serving is not None
    assert serving.candidate is None


def judged(score: float) -> str:
    """What a judge answers who gives no reasons."""
    fields = {"critique": "Hm.", "broken": "[]", "score": f"{score:.2f}"}
    return "\n\n".join([*(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items()), "[[ ## completed ## ]]"])


async def test_a_prompt_of_50_kb_is_refused_whoever_likes_it(storage: PostgresStorage) -> None:
    await talk(storage, 210)
    with pytest.raises(TrainingRefusedError, match="budget is 16,000") as refused:
        await run_training(Proposes(IDEAL_PROMPT + "\nBe nice." * 6_000), engine=SimulatedEngine(0))
    assert refused.value.cause == "prompt_too_long"
    assert (await storage.experiments("default")) == []


async def trained(**options: Any) -> TrainingRun:
    return await run_training(Proposes(IDEAL_PROMPT), engine=SimulatedEngine(0), **options)


async def test_a_judge_that_guesses_is_replaced_by_a_model_of_the_users_scores(storage: PostgresStorage) -> None:
    await talk(storage, 600)

    def guessing(asked: str, number: int) -> str | None:
        if "[[ ## critique ## ]]" not in asked:
            return None
        return judged(0.1 + number % 7 / 10)

    run = await run_training(Proposes(IDEAL_PROMPT), engine=Odd(guessing))
    assert "took the judge's place" in run.details["warning"]
    assert run.details["calibration"]["reward_model"]["passed"]


async def test_a_judge_who_says_always_the_same_is_refused_when_nothing_shall_take_its_place(
    storage: PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_settings.dspy.training, "uncalibrated", "refuse")
    await talk(storage, 260)

    def sulking(asked: str, number: int) -> str | None:
        if "[[ ## critique ## ]]" not in asked:
            return None
        return judged(0.5)

    with pytest.raises(TrainingRefusedError, match="can tell a good answer from a bad one") as refused:
        await run_training(Proposes(IDEAL_PROMPT), engine=Odd(sulking))
    assert refused.value.cause == "uncalibrated"


async def test_an_edited_rubric_is_used_as_it_is_and_kept(storage: PostgresStorage) -> None:
    await talk(storage, 260)
    mine = tuple(RubricRule(line.removeprefix("- ")) for line in IDEAL_PROMPT.splitlines()[1:13])
    await storage.save_rubric("default", mine, origin="edited", actor="me", reason="I know better")
    run = await trained()
    assert [one["rule"] for one in run.details["rubric"]["rules"]] == [one.text for one in mine]
    assert run.details["calls"].get("reflector", 0) == 0
    standing = await storage.standing_rubric("default")
    assert standing is not None
    assert standing.rules == mine
    assert len(await storage.rubrics("default")) == 1


async def test_what_a_run_induced_is_stored_with_the_tasks_behind_each_rule(storage: PostgresStorage) -> None:
    await talk(storage, 260)
    run = await trained()
    (stored,) = await storage.rubrics("default")
    assert (stored.origin, stored.run_id) == ("induced", run.id)
    assert 0 < len(stored.rules) <= 12
    assert all(one.task_ids for one in stored.rules)


@pytest.mark.parametrize("objective", ["reward_model", "imitation"])
async def test_other_objectives_need_no_judge(storage: PostgresStorage, objective: ObjectiveName) -> None:
    await talk(storage, 500)
    run = await trained(objective=objective)
    assert run.outcome in ("improved", "unchanged", "worse")
    assert run.details["calls"].get("judge", 0) <= 1


async def test_a_gate_that_was_wrong_of_late_is_not_believed(
    storage: PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bindu.dspy.models import PredictedEffect

    await talk(storage, 210)

    async def wrong(agent_id: str, *, limit: int) -> list[PredictedEffect]:
        return [PredictedEffect(experiment_id=n, predicted=0.2, observed=0.1 if n < 3 else -0.1) for n in range(1, 6)]

    monkeypatch.setattr(storage, "gate_record", wrong)
    with pytest.raises(TrainingRefusedError, match=r"Of the last 5 candidates .* users found 2 better") as refused:
        await trained()
    run = refused.value.run
    assert (run.details["cause"], run.calls) == ("gate_disagrees", 0)
    monkeypatch.setattr(app_settings.dspy.training, "min_agreement", 0.3)
    assert (await trained()).details["track_record"] == {"known": 5, "agreed": 2}


async def test_a_dead_model_keeps_what_was_paid_for(storage: PostgresStorage) -> None:
    await talk(storage, 210)

    def dies(asked: str, number: int) -> Exception | None:
        return lm15.AuthError("the key was revoked") if number > 100 else None

    with pytest.raises(ModelUnavailableError):
        await run_training("gepa", engine=Odd(dies))
    healthy = Odd(lambda asked, number: None)
    run = await run_training("gepa", engine=healthy)
    assert run.outcome == "improved"
    assert run.calls > healthy.calls + 95


async def test_no_judge_is_paid_for_where_nobody_could_tell_whether_it_is_right(
    storage: PostgresStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_settings.dspy.training, "uncalibrated", "refuse")
    monkeypatch.setattr(app_settings.dspy.training, "min_calibration_answers", 500)
    await talk(storage, 260)
    with pytest.raises(TrainingRefusedError, match="need 500") as refused:
        await trained()
    assert refused.value.run.calls == 1  # the preflight
