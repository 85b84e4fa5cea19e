"""The simulated judge: checks an answer against the rules it is shown, overlooks some, is a little moody."""

from __future__ import annotations

from collections.abc import Mapping

from bindu.dspy.simulation.draws import Draws
from bindu.dspy.simulation.reading import TRAITS, complained, noticed, required

__all__ = ["judge"]

_MISSED, _IMAGINED, _MOOD = 0.05, 0.03, 0.05
_NAMED_AT_MOST = 3
_EMPHASIS = 2.0  # of what the comment on the logged answer is about


def judge(fields: Mapping[str, str], draw: Draws) -> dict[str, object]:
    """A ``critique`` and a ``score`` in [0, 1] for the ``answer`` under the ``rubric``."""
    rules = required(fields.get("rubric", ""))
    emphasis = {name for name, _ in complained(fields.get("logged_comment", ""))}
    found = noticed(fields.get("answer", ""), draw, missed=_MISSED, imagined=_IMAGINED)
    weights = {name: _EMPHASIS if name in emphasis else 1.0 for name in rules}
    broken = [name for name, wanted in rules.items() if wanted != (name in found)]
    kept = sum(weights.values()) - sum(weights[name] for name in broken)
    share = kept / sum(weights.values()) if rules else 0.5
    score = min(1.0, max(0.0, share + draw.bell(_MOOD)))
    named = draw.sample(broken, [weights[name] for name in broken], _NAMED_AT_MOST)
    return {"critique": _critique(named, rules), "score": round(score, 2)}


def _critique(broken: list[str], rules: Mapping[str, bool]) -> str:
    if not broken:
        return "The answer keeps to the rubric."
    return " ".join(_fault(name, rules[name]) for name in broken)


def _fault(name: str, wanted: bool) -> str:
    rule = (TRAITS[name].do if wanted else TRAITS[name].leave)[0]
    return f"The answer does not keep to this rule: {rule}"
