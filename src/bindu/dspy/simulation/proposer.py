"""The simulated proposer: writes new instructions for DSPy's optimizers, from whatever each of them shows it."""

from __future__ import annotations

import json
import re
import textwrap
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from bindu.dspy.simulation.draws import Draws
from bindu.dspy.simulation.lessons import (
    CRITICISED,
    MISSED,
    SUPERSTITIOUS,
    Lesson,
    choose,
    corrected,
    criticised,
    worded,
)
from bindu.dspy.simulation.reading import heard, required
from bindu.dspy.simulation.world import Reading

__all__ = ["describe", "observe", "propose", "rewrite", "summarise"]

_LEFT_OUT = 0.25  # share of a description's lessons that a proposal does without
_GUESSES = 2  # at most, where nothing was learned
_ENCOURAGING = 0.75  # share of guesses that ask for something instead of forbidding it
_COMMENTS = re.compile(r"'comments': (\((?:[^()'\"]|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")*\))")
_CORRECTION = re.compile(r"\bcorrected: (.+)", re.DOTALL)
_ITEM = re.compile(r"^\[\d+\] ", re.MULTILINE)
_ATTEMPT = re.compile(r"«+\s*Instruction #\d+: (.*?)\s*»+\s*", re.DOTALL)


def rewrite(fields: Mapping[str, str], reading: Reading, draw: Draws) -> dict[str, object]:
    """GEPA's ``ProposeInstruction``: the current instruction with what the feedback teaches."""
    current = fields["current_instruction"]
    weights: defaultdict[Lesson, float] = defaultdict(float)
    for answer, feedback in _examples(fields["examples_with_feedback"]):
        known = _CORRECTION.search(feedback)
        for lesson in corrected(answer, known[1], reading, draw) if known else criticised(feedback, reading):
            weights[lesson] += CRITICISED
    return {"new_instruction": _with_rules(current, choose(weights, required(current, reading), reading, draw, most=5))}


def _examples(text: str) -> list[tuple[str, str]]:
    """The assistant's answers, each with the feedback on it."""
    try:
        shown: Any = json.loads(text)
    except json.JSONDecodeError:
        return [("", text)]
    return [
        (_answer(one.get("Generated Outputs", "")), str(one.get("Feedback", "")))
        for one in shown
        if isinstance(one, dict)
    ]


def _answer(outputs: Any) -> str:
    return "\n".join(map(str, outputs.values())) if isinstance(outputs, dict) else str(outputs)


def _with_rules(instruction: str, rules: list[str]) -> str:
    return "\n".join((instruction, *(f"- {rule}" for rule in rules)))


def observe(fields: Mapping[str, str], reading: Reading, draw: Draws) -> dict[str, object]:
    """MIPROv2's ``DatasetDescriptor``: what the comments that stand in the examples ask for, and is not noted yet."""
    known = required(fields.get("prior_observations", ""), reading)
    lessons = dict.fromkeys(
        lesson for comments in _COMMENTS.findall(fields["examples"]) for lesson in heard(comments, reading)
    )
    new = [lesson for lesson in lessons if lesson[0] not in known and not draw.chance(MISSED)]
    noted = [f" The users have this in mind. {worded(lesson, reading, draw)}" for lesson in new]
    if "prior_observations" in fields:
        return {"observations": "".join(noted).strip() or "COMPLETE"}
    return {
        "observations": "Each sample is a message to an assistant, its answer and what became of it." + "".join(noted)
    }


def summarise(fields: Mapping[str, str], reading: Reading, draw: Draws) -> dict[str, object]:
    """MIPROv2's ``ObservationSummarizer``: what was observed in fewer words, nearly all of it."""
    kept = [lesson for lesson in required(fields["observations"], reading).items() if not draw.chance(MISSED)]
    rules = "".join(f" {worded(lesson, reading, draw)}" for lesson in kept)
    return {
        "summary": f"The samples are messages to an assistant with its answers and what users thought of them.{rules}"
    }


def describe(fields: Mapping[str, str], reading: Reading, draw: Draws) -> dict[str, object]:
    """MIPROv2's ``DescribeProgram`` and ``DescribeModule``: there is little to say about one call of a model."""
    del fields, reading, draw
    return {
        "program_description": "The program answers the messages of users by a single call of a language model.",
        "module_description": "The module writes the answer to the message that it is given.",
    }


def propose(fields: Mapping[str, str], reading: Reading, draw: Draws) -> dict[str, object]:
    """A ``proposed_instruction``: for MIPROv2 by what the data teach, for COPRO, which shows no data, by guesses."""
    current = fields.get("basic_instruction") or _best_attempt(fields["attempted_instructions"])
    asked = required(current, reading)
    taught = required(fields.get("dataset_description", ""), reading)
    lessons = [one for one in taught.items() if asked.get(one[0]) != one[1] and not draw.chance(_LEFT_OUT)]
    rules = [worded(lesson, reading, draw) for lesson in (lessons if taught else _guesses(reading, draw))]
    if not rules or draw.chance(SUPERSTITIOUS):
        rules.append(draw.choice(reading.superstitions))
    return {"proposed_instruction": _with_rules(current, rules), "proposed_prefix_for_output_field": "Answer:"}


def _guesses(reading: Reading, draw: Draws) -> list[Lesson]:
    names = list(reading.traits)
    guessed = draw.sample(names, [1.0] * len(names), int(draw.uniform() * (_GUESSES + 1)))
    return [(name, draw.chance(_ENCOURAGING)) for name in guessed]


def _best_attempt(attempts: str) -> str:
    """The instruction that COPRO lists last, which is the one with the highest score."""
    found = [attempt for item in _ITEM.split(attempts) if (attempt := _ATTEMPT.fullmatch(item))]
    lines = found[-1][1].split("\n", 1) if found else [attempts]
    return "\n".join((lines[0], *(textwrap.dedent(rest) for rest in lines[1:])))
