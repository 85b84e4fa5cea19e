"""The simulated judge: checks an answer against rules or against another answer, overlooks some, is a little moody."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bindu.dspy.simulation.draws import Draws
from bindu.dspy.simulation.reading import complained, noticed, required
from bindu.dspy.simulation.world import Reading

__all__ = ["compare", "judge"]

_MISSED, _IMAGINED, _MOOD = 0.05, 0.03, 0.05
_NAMED_AT_MOST = 3
_EMPHASIS = 2.0  # of what the comment on the logged answer is about
_NUMBERED = re.compile(r"^(\d+)\. (.+)$", re.MULTILINE)


def judge(fields: Mapping[str, str], reading: Reading, draw: Draws) -> dict[str, object]:
    """A ``critique``, the ``broken`` rules and a ``score`` in [0, 1] for the ``answer`` under the ``rubric``."""
    rubric = fields.get("rubric", "")
    rules = required(rubric, reading)
    emphasis = {name for name, _ in complained(fields.get("logged_comment", ""), reading)}
    found = noticed(fields.get("answer", ""), reading, draw, missed=_MISSED, imagined=_IMAGINED)
    weights = {name: _EMPHASIS if name in emphasis else 1.0 for name in rules}
    broken = [name for name, wanted in rules.items() if wanted != (name in found)]
    kept = sum(weights.values()) - sum(weights[name] for name in broken)
    share = kept / sum(weights.values()) if rules else 0.5
    score = min(1.0, max(0.0, share + draw.bell(_MOOD)))
    named = draw.sample(broken, [weights[name] for name in broken], _NAMED_AT_MOST)
    critique = _critique(named, rules, reading)
    return {"critique": critique, "broken": _broken(rubric, found, reading), "score": round(score, 2)}


def _critique(broken: list[str], rules: Mapping[str, bool], reading: Reading) -> str:
    if not broken:
        return "The answer keeps to the rubric."
    faults = (reading.traits[name].wordings(rules[name])[0] for name in broken)
    return " ".join(f"The answer does not keep to this rule: {rule}" for rule in faults)


def _broken(rubric: str, found: set[str], reading: Reading) -> list[int]:
    """Numbers of the rules that are not kept; a list that stands further up belongs to the instructions."""
    numbered: dict[int, str] = {}
    for number, rule in _NUMBERED.findall(rubric):
        if number == "1":
            numbered.clear()
        numbered[int(number)] = rule
    return [
        number
        for number, rule in numbered.items()
        if any(wanted != (name in found) for name, wanted in required(rule, reading).items())
    ]


def compare(fields: Mapping[str, str], reading: Reading, draw: Draws) -> dict[str, object]:
    """SemanticF1: how much of the ``ground_truth`` is in the ``system_response``, and the other way round."""
    truth, response = (
        noticed(fields.get(field, ""), reading, draw, missed=_MISSED, imagined=_IMAGINED)
        for field in ("ground_truth", "system_response")
    )
    common = [name for name in reading.traits if name in truth & response]
    return {
        "reasoning": f"Both have in common: {', '.join(common) or 'nothing'}.",
        "recall": _share(common, truth),
        "precision": _share(common, response),
    }


def _share(common: list[str], found: set[str]) -> float:
    return round(len(common) / len(found), 2) if found else 0.5  # there is nothing to tell
