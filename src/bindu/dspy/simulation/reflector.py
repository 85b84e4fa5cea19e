"""The simulated reflector: turns visible differences, critiques and comments into rules, some of them wrong."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from bindu.dspy.simulation.draws import Draws
from bindu.dspy.simulation.reading import SUPERSTITIONS, TRAITS, complained, noticed, required

__all__ = ["advise", "induce_rules", "rewrite"]

Lesson = tuple[str, bool]  # a trait, and whether to show it

_MISSED, _IMAGINED = 0.10, 0.03
_CRITICISED, _CONTRASTED = 5.0, 0.5  # weight of a critique, of a visible difference
_SUPERSTITIOUS = 0.12
_CRITIQUE = re.compile(r"(?:keep to this rule: )([^.]+\.)")
_MAX_RULES = 12
_CLEARLY = 0.2  # a difference between shares of praised and of rejected answers


def _rule(lesson: Lesson, draw: Draws) -> str:
    name, wanted = lesson
    return draw.choice(TRAITS[name].do if wanted else TRAITS[name].leave)


def _criticised(text: str) -> list[Lesson]:
    rules = [lesson for rule in _CRITIQUE.findall(text) for lesson in required(rule).items()]
    return rules or complained(text)


def _longest(node: Any) -> str:
    """The text of an output: whatever its field is called."""
    match node:
        case str():
            return node
        case dict():
            return max(map(_longest, node.values()), key=len, default="")
        case list():
            return max(map(_longest, node), key=len, default="")
        case _:
            return ""


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def advise(fields: Mapping[str, str], draw: Draws) -> dict[str, object]:
    """SIMBA's ``OfferFeedback``: a ``discussion`` and a ``module_advice`` for each module named."""
    better = noticed(_longest(_parsed(fields["better_program_outputs"])), draw, missed=_MISSED, imagined=_IMAGINED)
    worse = noticed(_longest(_parsed(fields["worse_program_outputs"])), draw, missed=_MISSED, imagined=_IMAGINED)
    weights: defaultdict[Lesson, float] = defaultdict(float)
    for name in sorted(better ^ worse):
        weights[name, name in better] += _CONTRASTED
    for field in ("worse_reward_info", "better_reward_info"):
        for lesson in _criticised(_longest(_parsed(fields[field]))):
            weights[lesson] += _CRITICISED
    asked = required(fields["modules_defn"].partition("Original Instructions:")[2])
    rules = _choose(weights, asked, draw, most=4)
    names = _parsed(fields["module_names"])
    return {"discussion": _discuss(weights), "module_advice": {name: " ".join(rules) for name in names}}


def _choose(weights: Mapping[Lesson, float], asked: Mapping[str, bool], draw: Draws, *, most: int) -> list[str]:
    lessons = list(weights)
    # what the instructions ask for already is said again, in other words, only when a critique misses it
    worth = [weights[lesson] - (_CONTRASTED if asked.get(lesson[0]) == lesson[1] else 0.0) for lesson in lessons]
    rules = [_rule(lesson, draw) for lesson in draw.sample(lessons, worth, 1 + int(draw.uniform() * most))]
    if draw.chance(_SUPERSTITIOUS) or not rules:
        rules.append(draw.choice(SUPERSTITIONS))
    return rules


def _discuss(weights: Mapping[Lesson, float]) -> str:
    if not weights:
        return "Both trajectories look alike."
    told = [f"{'shows' if wanted else 'spares us'}: {name}" for name, wanted in weights]
    return "The better one, or the one we would like to see, " + "; ".join(told) + "."


def induce_rules(fields: Mapping[str, str], draw: Draws) -> dict[str, object]:
    """The rubric's ``rules``, at most 12, each with the ids of the rows it was drawn from."""
    praised, rejected = _rows(fields["praised"]), _rows(fields["rejected"])
    cited: dict[Lesson, list[str]] = {}
    for row in [*rejected, *praised]:
        said = f"{row.get('comment') or ''}\n{row.get('correction') or ''}"
        for lesson in complained(said):
            if not draw.chance(_MISSED):
                cited.setdefault(lesson, []).append(str(row["id"]))
    told = {name for name, _ in cited}
    ordered = required(fields.get("present_instructions", ""))
    for lesson, ids in _contrast(praised, rejected, draw):
        name, wanted = lesson
        if name not in told and ordered.get(name, wanted) == wanted:  # only words overrule an instruction
            cited[lesson] = ids
    ranked = sorted(cited.items(), key=lambda item: -len(item[1]))[:_MAX_RULES]
    rules = [{"rule": _rule(lesson, draw), "task_ids": ids} for lesson, ids in ranked]
    if draw.chance(2 * _SUPERSTITIOUS) and praised and len(rules) < _MAX_RULES:
        rules.append({"rule": draw.choice(SUPERSTITIONS), "task_ids": [str(praised[0]["id"])]})
    return {"rules": rules}


def _rows(text: str) -> list[dict[str, Any]]:
    rows = _parsed(text)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _contrast(
    praised: list[dict[str, Any]], rejected: list[dict[str, Any]], draw: Draws
) -> Iterable[tuple[Lesson, list[str]]]:
    """Traits that praised answers show clearly more often, or clearly less often, than rejected ones."""
    if not praised or not rejected:
        return
    good = [(row, noticed(str(row.get("answer", "")), draw, missed=_MISSED)) for row in praised]
    bad = [(row, noticed(str(row.get("answer", "")), draw, missed=_MISSED)) for row in rejected]
    for name in TRAITS:
        showing = [str(row["id"]) for row, found in good if name in found]
        avoided = [str(row["id"]) for row, found in bad if name in found]
        gap = len(showing) / len(good) - len(avoided) / len(bad)
        doubt = math.sqrt(_variance(len(showing), len(good)) + _variance(len(avoided), len(bad)))
        if abs(gap) > max(_CLEARLY, 2 * doubt):
            yield (name, gap > 0), (showing if gap > 0 else avoided)[:5]


def _variance(count: int, total: int) -> float:
    share = (count + 1) / (total + 2)  # never certain
    return share * (1 - share) / total


def rewrite(text: str, draw: Draws) -> str:
    """GEPA's instruction proposal: the current instruction with what the feedback teaches, between fences."""
    current = text.split("```")[1].strip()
    weights: defaultdict[Lesson, float] = defaultdict(float)
    for lesson in _criticised(text.split("```")[3]):
        weights[lesson] += _CRITICISED
    rules = _choose(weights, required(current), draw, most=5)
    return f"```\n{current}\n" + "".join(f"- {rule}\n" for rule in rules) + "```"
