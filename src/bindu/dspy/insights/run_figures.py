"""What a training run read, spent, learned and proved, as sheets for people. Whatever it did not record is left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from bindu.dspy.models import JsonObject, TrainingRun
from bindu.dspy.sheet import Sheet, sheet

__all__ = ["rule_rows", "run_parts"]

GATE: Final = (  # in the order in which they are read; PostgreSQL keeps none
    *("outcome", "conversations", "active_score", "candidate_score", "gain", "lower", "upper", "margin", "p_value"),
    *("growth", "adjusted_gain", "reason"),
)


def run_parts(run: TrainingRun) -> Iterator[Sheet | str]:
    """What stands below the sentence."""
    details = run.details
    yield sheet("what", "value", title="Run", rows=[(name, value) for name, value in _facts(run) if value])
    rules, dropped = _objects(_object(details, "rubric"), "rules"), _objects(details, "rules_dropped")
    yield from _unless_empty("Rubric", ("", "rule", "tasks"), rule_rows(rules))
    yield from _unless_empty("Rules that were dropped", ("rule", "why"), _columns(dropped, "rule", "reason"))
    gate = [(_words(name), said(value)) for name, value in _ordered(details, "gate", *GATE).items()]
    yield from _unless_empty("Gate, on unseen conversations", ("what", "value"), gate)
    refusals = _columns(_objects(details, "prompt_refusals"), "candidate", "rule", "offending", "reason")
    yield from _unless_empty("Prompts that were refused", ("candidate", "rule", "words", "why"), refusals)
    lineage = [
        (said(one.get("line")), said(one.get("rule")), _count(one.get("task_ids")))
        for one in _objects(details, "lineage")
    ]
    yield from _unless_empty("Where the new lines come from", ("line", "rule", "tasks"), lineage)
    if details.get("diff"):
        yield said(details["diff"])


def rule_rows(rules: Iterable[JsonObject]) -> list[tuple[str, ...]]:
    """Numbered rules, each with the number of tasks behind it."""
    return [(str(number), said(one.get("rule")), _count(one.get("task_ids"))) for number, one in enumerate(rules, 1)]


def said(value: Any) -> str:
    """A stored value on one line; a text as it is."""
    match value:
        case dict():
            return ", ".join(f"{_words(name)} {_inner(inner)}" for name, inner in value.items())
        case list():
            return ", ".join(map(_inner, value))
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.4g}"
        case _:
            return "" if value is None else str(value)


def _facts(run: TrainingRun) -> Iterator[tuple[str, str]]:
    details = run.details
    funnel = _ordered(details, "funnel", "tasks", "golden", "failures")
    drops, calibration = funnel.pop("drops", None), _ordered(details, "calibration", "reason")
    yield "id", str(run.id)
    yield "how", f"{run.optimizer}, {run.strategy}, seed {run.seed}"
    yield "continues", said(run.resumes)
    yield "state", run.outcome or run.state
    yield "step", run.step or ""
    yield "to stop because", run.cancel_reason or ""
    yield "started", _time(run.started_at)
    yield "last sign of life", _time(run.seen_at)
    yield "ended", _time(run.ended_at)
    yield "progress", said(_ordered(details, "progress", "calls_done", "calls_expected", "eta_seconds"))
    yield "calls", f"{run.calls:,}"
    yield "calls by role", said(details.get("calls"))
    yield "tokens", said(details.get("tokens"))
    yield "cost", f"${run.cost:.4f}" if run.cost else ""
    yield "dataset", said(funnel)
    yield "dropped", said(drops)
    yield "split", said(_ordered(details, "split", "train", "select", "accept"))
    yield "calibration", said(calibration.get("reason") or calibration)
    yield "rubric kept by hand", said(details.get("rubric_edited"))
    yield "best score on select", said(_best_score(details))


def _best_score(details: JsonObject) -> Any:
    """Older code recorded only the candidates."""
    scores = [one.get("select_score") for one in _objects(details, "candidates")]
    return details.get("best_select", max((score for score in scores if isinstance(score, int | float)), default=None))


def _unless_empty(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[Sheet]:
    if rows:
        yield sheet(*columns, rows=rows, title=title)


def _columns(found: Iterable[JsonObject], *names: str) -> list[tuple[str, ...]]:
    return [tuple(said(one.get(name)) for name in names) for one in found]


def _object(of: JsonObject, name: str) -> JsonObject:
    value = of.get(name)
    return value if isinstance(value, dict) else {}


def _ordered(of: JsonObject, name: str, *first: str) -> JsonObject:
    """What is known by that name, these parts before the others."""
    value = _object(of, name)
    return {part: value[part] for part in (*first, *value) if part in value}


def _objects(of: JsonObject, name: str) -> list[JsonObject]:
    value = of.get(name)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _count(ids: Any) -> str:
    return str(len(ids)) if isinstance(ids, list) else ""


def _inner(value: Any) -> str:
    return f"({said(value)})" if isinstance(value, dict | list) else said(value)


def _words(name: Any) -> str:
    return str(name).replace("_", " ")


def _time(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S %Z}"
