"""The simulated reflector: turns visible differences, critiques and comments into rules, some of them wrong."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from bindu.dspy.simulation.draws import Draws
from bindu.dspy.simulation.lessons import (
    CONTRASTED,
    CRITICISED,
    MISSED,
    SUPERSTITIOUS,
    Lesson,
    choose,
    corrected,
    criticised,
    worded,
)
from bindu.dspy.simulation.reading import heard, noticed, required
from bindu.dspy.simulation.world import Reading

__all__ = ["advise", "induce_rules"]

_IMAGINED = 0.03
_MAX_RULES = 16
_CLEARLY = 0.2  # a difference between shares of praised and of rejected answers


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


def advise(fields: Mapping[str, str], reading: Reading, draw: Draws) -> dict[str, object]:
    """SIMBA's ``OfferFeedback``: a ``discussion`` and a ``module_advice`` for each module named."""
    better, worse = (
        noticed(_longest(_parsed(fields[field])), reading, draw, missed=MISSED, imagined=_IMAGINED)
        for field in ("better_program_outputs", "worse_program_outputs")
    )
    weights: defaultdict[Lesson, float] = defaultdict(float)
    for name in sorted(better ^ worse):
        weights[name, name in better] += CONTRASTED
    for field in ("worse_reward_info", "better_reward_info"):
        for lesson in criticised(_longest(_parsed(fields[field])), reading):
            weights[lesson] += CRITICISED
    asked = required(fields["modules_defn"].partition("Original Instructions:")[2], reading)
    rules = choose(weights, asked, reading, draw, most=4)
    names = _parsed(fields["module_names"])
    return {"discussion": _discuss(weights), "module_advice": {name: " ".join(rules) for name in names}}


def _discuss(weights: Mapping[Lesson, float]) -> str:
    if not weights:
        return "Both trajectories look alike."
    told = [f"{'shows' if wanted else 'spares us'}: {name}" for name, wanted in weights]
    return "The better one, or the one we would like to see, " + "; ".join(told) + "."


def induce_rules(fields: Mapping[str, str], reading: Reading, draw: Draws) -> dict[str, object]:
    """The rubric's ``rules``, at most 16, each with the ids of the rows it was drawn from."""
    praised, rejected = _rows(fields["praised"]), _rows(fields["rejected"])
    cited = _told([*rejected, *praised], reading, draw)
    told = {name for name, _ in cited}
    ordered = required(fields.get("present_instructions", ""), reading)
    for lesson, ids in _contrast(praised, rejected, reading, draw):
        name, wanted = lesson
        if name not in told and ordered.get(name, wanted) == wanted:  # only words overrule an instruction
            cited[lesson] = ids
    ranked = sorted(cited.items(), key=lambda item: -len(item[1]))[:_MAX_RULES]
    rules = [{"rule": worded(lesson, reading, draw), "task_ids": ids} for lesson, ids in ranked]
    if draw.chance(2 * SUPERSTITIOUS) and praised and len(rules) < _MAX_RULES:
        rules.append({"rule": draw.choice(reading.superstitions), "task_ids": [str(praised[0]["id"])]})
    return {"rules": rules}


def _rows(text: str) -> list[dict[str, Any]]:
    rows = _parsed(text)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _told(rows: Iterable[Mapping[str, Any]], reading: Reading, draw: Draws) -> dict[Lesson, list[str]]:
    """What users said or showed in a correction, with the rows in which they did."""
    cited: dict[Lesson, list[str]] = {}
    for row in rows:
        lessons = heard(str(row.get("comment") or ""), reading)
        if row.get("correction"):
            lessons += corrected(str(row.get("answer", "")), str(row["correction"]), reading, draw)
        for lesson in dict.fromkeys(lessons):
            if not draw.chance(MISSED):
                cited.setdefault(lesson, []).append(str(row["id"]))
    return cited


def _contrast(
    praised: list[dict[str, Any]], rejected: list[dict[str, Any]], reading: Reading, draw: Draws
) -> Iterable[tuple[Lesson, list[str]]]:
    """Traits that praised answers show clearly more often, or clearly less often, than rejected ones."""
    if not praised or not rejected:
        return
    good = [(row, noticed(str(row.get("answer", "")), reading, draw, missed=MISSED)) for row in praised]
    bad = [(row, noticed(str(row.get("answer", "")), reading, draw, missed=MISSED)) for row in rejected]
    for name in reading.traits:
        showing = [str(row["id"]) for row, found in good if name in found]
        avoided = [str(row["id"]) for row, found in bad if name in found]
        gap = len(showing) / len(good) - len(avoided) / len(bad)
        doubt = math.sqrt(_variance(len(showing), len(good)) + _variance(len(avoided), len(bad)))
        if abs(gap) > max(_CLEARLY, 2 * doubt):
            yield (name, gap > 0), (showing if gap > 0 else avoided)[:5]


def _variance(count: int, total: int) -> float:
    share = (count + 1) / (total + 2)  # never certain
    return share * (1 - share) / total
