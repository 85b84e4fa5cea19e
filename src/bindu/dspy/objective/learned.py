"""The objective of a run, learned from rows that teach and trusted only when it agrees with users on others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import dspy

from bindu.dspy.calibration import Calibration, Rated, calibrate
from bindu.dspy.contest import gives_orders, settle
from bindu.dspy.engine import CountingEngine
from bindu.dspy.engine.parallel import in_parallel
from bindu.dspy.engine.speakers import Role
from bindu.dspy.errors import TrainingRefusedError
from bindu.dspy.models import Interaction
from bindu.dspy.objective.base import Objective
from bindu.dspy.objective.induction import INDUCTION_CALLS, induce_rules
from bindu.dspy.objective.judge import Judge, Judgement
from bindu.dspy.objective.references import Correction, Gold
from bindu.dspy.objective.reward_model import RewardModel, cross_predicted
from bindu.dspy.rubric import Rubric, RubricRule
from bindu.dspy.splits import Conversation, Split, by_person, halves
from bindu.dspy.support import Reading, weigh_rules
from bindu.settings import TrainingSettings
from bindu.utils.logging import get_logger

__all__ = ["LearnedObjective", "Learning", "learning_calls"]

logger = get_logger("bindu.dspy.objective")

MOST_CALIBRATED: Final = 150  # logged answers that a judge is tried on, the newest
MOST_READ: Final = 400  # logged answers that rules are weighed by, the newest
_HALVES: Final = 2
_CALLS_A_READING: Final = 2  # DSPy asks again in JSON when it cannot read its own format

Record = Callable[[str, object], None]


@dataclass(frozen=True, slots=True)
class LearnedObjective:
    """What the optimizer maximises, and what the gate compares by."""

    optimize: Objective
    prove: Objective


def learning_calls(split: Split) -> tuple[int, int]:
    """The most calls of the reflector and of a judge that learning takes."""
    scored = sum(row.feedback_score is not None for one in (*split.train, *split.select) for row in one.rows)
    read = min(MOST_CALIBRATED, scored) + min(MOST_READ, scored)
    return (_HALVES + 1) * INDUCTION_CALLS, _CALLS_A_READING * read


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """Everything that learning an objective needs; its methods block, under ``optimizer.running``."""

    engine: CountingEngine
    prompt: str  # the active one: a rubric begins with its instructions
    split: Split
    edited: tuple[RubricRule, ...] | None  # a person's rubric is used as it is
    settings: TrainingSettings
    seed: int
    record: Record

    def judge(self) -> LearnedObjective:
        """A judge who reads a rubric, or, when it cannot be trusted, a model of the users' scores.

        Raises TrainingRefusedError when neither agrees with users, ModelUnavailableError.
        """
        known = self._calibrate([(row, 0.0) for row in _scored([*self.split.train, *self.split.select])])
        if not known.enough:  # no judge could be tried on so little: none is asked
            return self._instead(known)
        rules = self.edited or self._induced()
        calibrations = self._calibrated()
        self.record("calibration", {role: asdict(one) for role, one in calibrations.items()})
        failed = next((one for one in calibrations.values() if not one.passed), None)
        if failed is not None:
            return self._instead(failed)
        return self._judged(Rubric(self.prompt, self.edited or self._supported(rules)))

    def _instead(self, failed: Calibration) -> LearnedObjective:
        """What is done when the judge cannot be trusted."""
        if self.settings.uncalibrated == "refuse":
            raise _untrusted(failed)
        logger.warning("%s A model of the users' scores takes its place.", failed.reason)
        self.record("warning", f"{failed.reason} A model of the users' scores took the judge's place.")
        return self.reward_model()

    def reward_model(self) -> LearnedObjective:
        """A model fitted to the users' scores. Raises TrainingRefusedError when it does not predict any."""
        groups = [_scored(group) for group in by_person(self.split.train)]
        rows = [row for group in groups for row in group]
        people = [number for number, group in enumerate(groups) for _ in group]
        predicted = cross_predicted(rows, people, seed=self.seed)
        found = self._calibrate(list(zip(rows, predicted, strict=True)))
        self.record("calibration", {"reward_model": asdict(found)})
        if not found.passed:
            raise _untrusted(found)
        model = Rewarded(RewardModel.fit(rows, seed=self.seed))
        return LearnedObjective(model, model)

    def correction(self) -> LearnedObjective:
        """Closeness to the answers that users corrected."""
        return LearnedObjective(Correction(self.engine), Correction(self.engine, role="gatekeeper"))

    def _judged(self, rubric: Rubric) -> LearnedObjective:
        self.record("rubric", rubric.as_json())

        def of(role: Role) -> Objective:
            return Gold(Correction(self.engine, role=role), Judge(self.engine, rubric, role=role))

        return LearnedObjective(of("judge"), of("gatekeeper"))

    def _induced(self) -> tuple[RubricRule, ...]:
        return induce_rules(self.engine, self.prompt, self.split.train_rows[::-1])

    def _calibrated(self) -> Mapping[Role, Calibration]:
        """Each judge on logged answers, by a rubric from other people's rows: half of them teaches, the other asks."""
        one, other = halves(self.split.train)
        asked = [
            (one, self._fold_rules(other)),
            ([*other, *self.split.select], self._fold_rules(one)),
        ]
        roles: list[Role] = ["judge"]
        if self.engine.speaker("gatekeeper").model != self.engine.speaker("judge").model:
            roles.append("gatekeeper")
        return {role: self._calibrate(self._scores(role, asked)) for role in roles}

    def _fold_rules(self, lesson: Sequence[Conversation]) -> tuple[RubricRule, ...]:
        if self.edited is not None:
            return self.edited
        rows = [row for conversation in lesson for row in conversation.rows]
        return induce_rules(self.engine, self.prompt, rows[::-1])

    def _scores(
        self, role: Role, asked: Sequence[tuple[Sequence[Conversation], tuple[RubricRule, ...]]]
    ) -> list[tuple[Interaction, float]]:
        found = []
        for conversations, rules in asked:
            rows = _scored(conversations)[-(MOST_CALIBRATED // _HALVES) :]
            read = self._read(rows, Judge(self.engine, Rubric(self.prompt, rules), role=role))
            found += [(row, said.score) for row, said in zip(rows, read, strict=True) if said is not None]
        return found

    def _read(self, rows: Sequence[Interaction], judge: Judge) -> list[Judgement | None]:
        """Judge logged answers without their rating and comment."""
        read = in_parallel(lambda row: judge.read(row.user_input, row.agent_output), rows)
        self.engine.check()
        return read

    def _calibrate(self, judged: Sequence[tuple[Interaction, float]]) -> Calibration:
        rated = [
            Rated(row.feedback_score or 0.0, score, len(row.agent_output), row.feedback_type or "")
            for row, score in judged
        ]
        settings = self.settings
        return calibrate(
            rated, fewest=settings.min_calibration_answers, fewest_smaller=settings.min_calibration_failures
        )

    def _supported(self, rules: tuple[RubricRule, ...]) -> tuple[RubricRule, ...]:
        """Without the rules that few ask for and the ratings of all others speak against."""
        rows = _scored([*self.split.train, *self.split.select])[-MOST_READ:]
        read = self._read(rows, Judge(self.engine, Rubric(self.prompt, rules)))
        raters = {str(row.id): frozenset(row.raters) for row in self.split.train_rows}
        readings = [
            Reading(
                score=row.feedback_score or 0.0,
                kind=row.feedback_type or "",
                raters=frozenset(row.raters),
                task_id=str(row.id),
                length=len(row.agent_output),
                broken=said.broken,
            )
            for row, said in zip(rows, read, strict=True)
            if said is not None
        ]
        orders = {str(row.id) for row in self.split.train_rows if row.comments and all(map(gives_orders, row.comments))}
        weighed = settle(weigh_rules(rules, readings, raters), readings, raters, orders)
        dropped = [one for one in weighed if one.verdict == "drop"]
        self.record("rules_dropped", [{"rule": one.rule.text, "reason": one.reason} for one in dropped])
        return tuple(one.rule for one in weighed if one.verdict == "keep")


class Rewarded:
    """What a model fitted to the users' scores expects them to say, as an objective."""

    def __init__(self, model: RewardModel) -> None:
        self._model = model

    def __call__(self, example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> dspy.Prediction:
        del trace
        score = self._model.predict(example.input, prediction.output)
        return dspy.Prediction(score=score, critique=f"Users would probably give it {score:.2f} of 1.")


def _scored(conversations: Sequence[Conversation]) -> list[Interaction]:
    """Oldest first."""
    rows = (row for one in conversations for row in one.rows if row.feedback_score is not None)
    return sorted(rows, key=lambda row: (row.created_at is not None, row.created_at, str(row.id)))


def _untrusted(found: Calibration) -> TrainingRefusedError:
    return TrainingRefusedError(
        f"Nothing here can tell a good answer from a bad one: {found.reason} Nothing was deployed. Collect more "
        "feedback, name a better DSPY__JUDGE_MODEL, or pass an objective of your own.",
        cause="uncalibrated",
    )
