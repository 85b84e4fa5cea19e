"""The objective of a run, learned from rows that teach and trusted only when it agrees with users on others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from statistics import fmean
from typing import Final

import dspy

from bindu.dspy.calibration import Calibration, Rated, calibrate
from bindu.dspy.contest import settle
from bindu.dspy.engine import CountingEngine
from bindu.dspy.engine.parallel import in_parallel, side_by_side
from bindu.dspy.engine.speakers import Role
from bindu.dspy.errors import TrainingRefusedError
from bindu.dspy.models import Interaction
from bindu.dspy.objective.base import Objective
from bindu.dspy.objective.induction import INDUCTION_CALLS, induce_rules
from bindu.dspy.objective.judge import Judge, Judgement
from bindu.dspy.objective.references import Correction, Gold
from bindu.dspy.objective.reward_model import RewardModel, cross_predicted
from bindu.dspy.orders import only_orders
from bindu.dspy.rubric import MOST_RULES, Rubric, RubricRule
from bindu.dspy.splits import Conversation, Split, by_person, folds
from bindu.dspy.support import Reading, most_wanted, weigh_rules
from bindu.settings import TrainingSettings
from bindu.utils.logging import get_logger

__all__ = ["LearnedObjective", "Learning", "learning_calls"]

logger = get_logger("bindu.dspy.objective")

MOST_CALIBRATED: Final = 150  # logged answers that a judge is tried on, the newest
MOST_READ: Final = 400  # logged answers that rules are weighed by, the newest
_FOLDS: Final = 4
_FEWEST_PEOPLE: Final = 2  # to learn from one and predict the other
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
    return (_FOLDS + 1) * INDUCTION_CALLS, _CALLS_A_READING * read


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """Everything that learning an objective needs; its methods block, under ``optimizer.running``."""

    engine: CountingEngine
    prompt: str  # the active one: a rubric begins with its instructions
    split: Split
    heard: Split  # the same without orders, and without the votes of those who only give orders
    edited: tuple[RubricRule, ...] | None  # a person's rubric is used as it is
    settings: TrainingSettings
    seed: int
    record: Record

    def judge(self) -> LearnedObjective:
        """A judge who reads a rubric, or, when it cannot be trusted, a model of the users' scores.

        Raises TrainingRefusedError when neither agrees with users, ModelUnavailableError.
        """
        known = self._calibrate([(row, 0.0) for row in _scored([*self.heard.train, *self.heard.select])])
        if not known.enough:  # no judge could be tried on so little: none is asked
            return self._instead(known)
        rules = self.edited or self._induced()
        calibrations = self._calibrated(rules)
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
        groups = [_scored(group) for group in by_person(self.heard.train)]
        rows = [row for group in groups for row in group]
        people = [number for number, group in enumerate(groups) for _ in group]
        if len(set(people)) < _FEWEST_PEOPLE:
            raise _untrusted(self._calibrate([]))
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

    @property
    def _orders(self) -> frozenset[str]:
        """Tasks of which was only said what answers shall be like."""
        return frozenset(str(row.id) for row in self.split.train_rows if only_orders(row))

    def _induced(self) -> tuple[RubricRule, ...]:
        return induce_rules(self.engine, self.prompt, self.split.train_rows[::-1])

    def _calibrated(self, rules: tuple[RubricRule, ...]) -> Mapping[Role, Calibration]:
        """Each judge on logged answers, by rubrics from other people's rows: a part of train asks, the rest teaches."""
        parts = folds(self.heard.train, _FOLDS)
        lessons = [[one for other in parts if other is not part for one in other] for part in parts]
        learned = side_by_side(self._fold_rules, lessons)
        described = tuple(one for one in rules if not one.task_ids or not self._orders.issuperset(one.task_ids))
        asked = [
            (row, taught)
            for part, taught in [*zip(parts, learned, strict=True), (self.heard.select, described[:MOST_RULES])]
            for row in _scored(part)
        ]
        asked = sorted(asked, key=lambda one: _age(one[0]))[-MOST_CALIBRATED:]
        roles: list[Role] = ["judge"]
        if self.engine.speaker("gatekeeper").model != self.engine.speaker("judge").model:
            roles.append("gatekeeper")
        return {role: self._calibrate(self._scores(role, asked)) for role in roles}

    def _fold_rules(self, lesson: Sequence[Conversation]) -> tuple[RubricRule, ...]:
        """Without orders, which would have to be confirmed first."""
        if self.edited is not None:
            return self.edited
        rows = sorted((row for conversation in lesson for row in conversation.rows), key=_age)
        return induce_rules(self.engine, self.prompt, rows[::-1])[:MOST_RULES]

    def _scores(
        self, role: Role, asked: Sequence[tuple[Interaction, tuple[RubricRule, ...]]]
    ) -> list[tuple[Interaction, float]]:
        """What a judge says beyond the mean of its rubric: one rubric is harder to keep than another."""
        rubrics = dict.fromkeys(rules for _, rules in asked)
        judges = {rules: Judge(self.engine, Rubric(self.prompt, rules), role=role) for rules in rubrics}
        read = self._read([(row, judges[rules]) for row, rules in asked])
        scores: dict[tuple[RubricRule, ...], list[tuple[Interaction, float]]] = {rules: [] for rules in rubrics}
        for (row, rules), said in zip(asked, read, strict=True):
            if said is not None:
                scores[rules].append((row, said.score))
        return [(row, score - fmean(one for _, one in found)) for found in scores.values() for row, score in found]

    def _read(self, asked: Sequence[tuple[Interaction, Judge]]) -> list[Judgement | None]:
        """Judge logged answers without their rating and comment."""
        read = in_parallel(lambda one: one[1].read(one[0].user_input, one[0].agent_output), asked)
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
        """Of those that users' words and ratings bear out, the MOST_RULES that most people ask for."""
        rows = _scored([*self.heard.train, *self.heard.select])[-MOST_READ:]
        judge = Judge(self.engine, Rubric(self.prompt, rules))
        read = self._read([(row, judge) for row in rows])
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
        witnesses = {
            str(row.id): raters[str(row.id)] for row in self.heard.train_rows if row.comments or row.correction
        }
        weighed = settle(weigh_rules(rules, readings, raters), readings, witnesses, self._orders)
        weighed = most_wanted(weighed, MOST_RULES)
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
    return sorted(rows, key=_age)


def _age(row: Interaction) -> tuple[bool, datetime | None, str]:
    return row.created_at is not None, row.created_at, str(row.id)


def _untrusted(found: Calibration) -> TrainingRefusedError:
    return TrainingRefusedError(
        f"Nothing here can tell a good answer from a bad one: {found.reason} Nothing was deployed. Collect more "
        "feedback, name a better DSPY__JUDGE_MODEL, or pass an objective of your own.",
        cause="uncalibrated",
    )
