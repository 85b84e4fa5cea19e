"""The reward model learns what users like from the words of answers, and never from the row it predicts."""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace
from importlib.resources import files
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from bindu.dspy.calibration import Rated, calibrate
from bindu.dspy.models import Interaction
from bindu.dspy.objective import reward_model
from bindu.dspy.objective.reward_model import RewardModel, cross_predicted

SENTENCE = "the parcel was sent on its way and will reach you as soon as the carrier has found your street"
FILLER = SENTENCE.split()


def row(number: int, answer: str, score: float | None, kind: str = "rating", unit: str | None = None) -> Interaction:
    return Interaction(UUID(int=number + 1), f"question {number}", answer, score, kind, unit_id=unit)


def liked_apologies(seed: int, n: int = 160) -> list[Interaction]:
    """Half the answers apologise, which is worth .4 to the users; a third shout, which costs .3."""
    draw = random.Random(seed)
    rows = []
    for i in range(n):
        sorry, loud = draw.random() < 0.5, draw.random() < 0.33
        words = draw.sample(FILLER, 12)
        answer = f"{'We apologise. ' if sorry else ''}{' '.join(words)}{'!!' if loud else '.'}"
        felt = 0.5 + 0.4 * sorry - 0.3 * loud + draw.gauss(0, 0.1)
        kind = draw.choice(["rating", "thumbs_up"])
        rows.append(row(i, answer, float(felt > 0.5) if kind == "thumbs_up" else min(max(felt, 0.2), 1.0), kind))
    return rows


@pytest.fixture(scope="module")
def model() -> RewardModel:
    return RewardModel.fit(liked_apologies(1))


def test_it_prefers_what_users_prefer_marks_included(model: RewardModel) -> None:
    plain, sorry = "the carrier has found your parcel.", "We apologise. the carrier has found your parcel."
    assert model.predict("", sorry) > model.predict("", plain) + 0.15
    assert model.predict("", plain) > model.predict("", plain.replace(".", "!!"))


@given(question=st.text(), answer=st.text())
def test_every_answer_gets_a_score_from_0_to_1(model: RewardModel, question: str, answer: str) -> None:
    assert 0 <= model.predict(question, answer) <= 1


def test_equal_rows_and_seeds_make_equal_models() -> None:
    rows = liked_apologies(2)
    assert RewardModel.fit(rows, seed=5) == RewardModel.fit(rows, seed=5)
    groups = [i // 3 for i in range(len(rows))]
    assert cross_predicted(rows, groups, seed=5) == cross_predicted(rows, groups, seed=5)


def test_it_computes_what_scikit_learn_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward_model, "_STRENGTHS", (3.0,))
    rows = [replace(one, feedback_type="rating") for one in liked_apologies(3)]
    scores = np.array([one.feedback_score for one in rows])
    vectorizer = TfidfVectorizer(analyzer=reward_model._terms, min_df=2, sublinear_tf=True)
    ridge = Ridge(alpha=3.0, solver="lsqr").fit(vectorizer.fit_transform([one.agent_output for one in rows]), scores)
    fitted = RewardModel.fit(rows)
    for text in ("We apologise. the the the parcel!!", "carrier", "words it never saw", ""):
        expected = float(ridge.predict(vectorizer.transform([text]))[0])
        assert fitted.predict("", text) == pytest.approx(min(max(expected, 0), 1), abs=1e-3)


def test_a_word_that_only_tells_stars_from_thumbs_is_worth_nothing() -> None:
    draw = random.Random(4)
    rows = []
    for i in range(200):
        kind = draw.choice(["rating", "thumbs_up"])
        said = "signed by anna" if kind == "rating" else "signed by otto"
        score = draw.choice([0.8, 1.0]) if kind == "rating" else draw.choice([0.0, 0.0, 1.0])
        rows.append(row(i, f"{' '.join(draw.sample(FILLER, 8))} {said}", score, kind))
    fitted = RewardModel.fit(rows)
    assert abs(fitted.predict("", "signed by anna") - fitted.predict("", "signed by otto")) < 0.05


def test_a_row_is_predicted_by_a_model_that_saw_no_row_of_its_group() -> None:
    draw = random.Random(5)
    rows, groups = [], []
    for group in range(40):
        score = draw.choice([0.2, 0.4, 0.6, 0.8, 1.0])
        for i in range(4):
            words = " ".join(draw.sample(FILLER, 10))
            rows.append(row(4 * group + i, f"{words} ref{group}", score, unit=str(group)))
            groups.append(group)
    scores = [one.feedback_score or 0.0 for one in rows]
    assert abs(float(np.corrcoef(cross_predicted(rows, groups), scores)[0, 1])) < 0.25
    leaking = cross_predicted(rows, list(range(len(rows))))
    assert float(np.corrcoef(leaking, scores)[0, 1]) > 0.4


def test_where_there_is_nothing_to_learn_the_folds_do_not_turn_the_order_around() -> None:
    aurocs = []
    for seed in range(8):
        draw = random.Random(seed)
        rows = [row(i, " ".join(draw.sample(FILLER, 10)), draw.choice([0.0, 1.0]), "thumbs_up") for i in range(60)]
        predicted = cross_predicted(rows, list(range(60)), seed=seed)
        rated = [
            Rated(one.feedback_score or 0.0, p, len(one.agent_output), "thumbs_up")
            for one, p in zip(rows, predicted, strict=True)
        ]
        aurocs.append(calibrate(rated).auroc)
    assert np.mean(aurocs) == pytest.approx(0.5, abs=0.08)


def test_it_is_trusted_where_words_matter_and_refused_on_real_answers_to_everything() -> None:
    rows = liked_apologies(6)
    assert calibrate(rated_by_the_model(rows, [str(one.id) for one in rows])).passed
    source = files("bindu.dspy.simulation").joinpath("data/oasst_en100_turns.jsonl")
    replies, trees = [], []
    for i, line in enumerate(source.read_text(encoding="utf-8").splitlines()):
        reply = json.loads(line)
        up, down = reply["feedback"]["thumbs_up"], reply["feedback"]["thumbs_down"]
        if up + down:
            replies.append(row(i, reply["messages"][-1]["content"], up / (up + down), "thumbs_up"))
            trees.append(reply["conversation_id"])
    found = calibrate(rated_by_the_model(replies, trees))
    assert found.auroc > 0.6  # it has learned that longer answers are liked
    assert not found.passed


def rated_by_the_model(rows: list[Interaction], groups: list[str]) -> list[Rated]:
    return [
        Rated(one.feedback_score or 0.0, predicted, len(one.agent_output), one.feedback_type or "")
        for one, predicted in zip(rows, cross_predicted(rows, groups), strict=True)
    ]


def test_rows_without_a_score_teach_nothing_and_are_predicted() -> None:
    rows = liked_apologies(7)
    silent = [row(1000 + i, "We apologise. " + " ".join(FILLER[:8]), None) for i in range(30)]
    assert RewardModel.fit([*rows, *silent]) == RewardModel.fit(rows)
    groups = list(range(len(rows) + len(silent)))
    assert len(cross_predicted([*rows, *silent], groups)) == len(groups)


@pytest.mark.parametrize("rows", [[], [row(1, "text", None)]])
def test_without_scores_there_is_no_model(rows: list[Interaction]) -> None:
    with pytest.raises(ValueError, match="rows with a score"):
        RewardModel.fit(rows)


def test_one_group_cannot_predict_itself() -> None:
    with pytest.raises(ValueError, match="two groups"):
        cross_predicted(liked_apologies(8, 10), ["only"] * 10)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_answers_with_nothing_in_common_are_worth_the_mean(n: int) -> None:
    fitted = RewardModel.fit([row(i, f"word{i}", i / 4) for i in range(n)])
    assert fitted.predict("", "word1") == pytest.approx((n - 1) / 8)


@given(st.lists(st.tuples(st.text(max_size=30), st.floats(0, 1), st.integers(0, 3)), min_size=1, max_size=12))
@settings(max_examples=25, deadline=None)
def test_any_rows_can_be_learned_from(given: list[tuple[str, float, int]]) -> None:
    rows = [row(i, text, score) for i, (text, score, _) in enumerate(given)]
    groups = [group for _, _, group in given]
    assert 0 <= RewardModel.fit(rows).predict("", given[0][0]) <= 1
    if len(set(groups)) > 1:
        assert all(0 <= one <= 1 for one in cross_predicted(rows, groups))


def test_an_answer_of_2_kb_is_scored_within_a_millisecond(model: RewardModel) -> None:
    answer = (" ".join(FILLER) + ". ") * 21
    assert len(answer) >= 2000
    times = []
    for _ in range(30):
        started = time.perf_counter()
        model.predict("", answer)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.001
