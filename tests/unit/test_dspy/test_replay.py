"""Decisions of every kind that were once taken, and what their rules must make of them for as long as rows exist.

``tests/data/decisions/RULE-VERSION.json`` holds stored rows. A row that no longer comes out the same, to the last bit,
means that the rule has changed: then its version goes up and a file for it is added, while the old one stays.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bindu.dspy.decision import replay
from bindu.dspy.errors import UnknownRuleError
from bindu.dspy.models import Decision
from bindu.dspy.rules import RULES

FOLDER = Path(__file__).parents[2] / "data" / "decisions"
FILES = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.json"))}
HERE = {f"{name}-{rule.version}" for name, rule in RULES.items()}
ROWS = [pytest.param(row, id=f"{name} {row['name']}") for name in sorted(HERE) for row in FILES.get(name, [])]

MOVES = {"hold", "step_up", "step_down", "promote", "roll_back"}
VERDICTS = {"evidence": MOVES | {"won", "ask"}, "means": MOVES, "manual": MOVES | {"pause", "resume"}}


def decision(row: dict[str, Any]) -> Decision:
    return Decision(
        agent_id="support",
        id=7,
        experiment_id=3,
        window=1,
        verdict=row["verdict"],
        share_before=row["share_before"],
        share_after=row["share_after"],
        reason=row["reason"],
        inputs=row["inputs"],
        evidence=row["evidence"],
        rule=row["rule"],
        rule_version=row["rule_version"],
        code_version="0",
        actor=row["actor"],
        at=datetime(2026, 11, 22, 12, tzinfo=UTC),
    )


@pytest.mark.parametrize("row", ROWS)
def test_a_stored_decision_comes_out_the_same_to_the_last_bit(row: dict[str, Any]) -> None:
    again = replay(decision(row))
    assert (again.verdict, again.share_after, again.outcome) == (row["verdict"], row["share_after"], row["outcome"])
    assert json.dumps(again.evidence, sort_keys=True) == json.dumps(row["evidence"], sort_keys=True)


@pytest.mark.parametrize("rule", RULES)
def test_every_verdict_of_a_rule_s_version_is_among_the_rows(rule: str) -> None:
    name = f"{rule}-{RULES[rule].version}"
    assert name in FILES, f"Add tests/data/decisions/{name}.json with rows of every verdict."
    assert {row["verdict"] for row in FILES[name]} == VERDICTS[rule]
    assert all((row["rule"], row["rule_version"]) == (rule, RULES[rule].version) for row in FILES[name])
    ends = {row["outcome"] for row in FILES[name]}
    assert ends >= {"promoted", "rolled_back", None} | ({"inconclusive"} if rule != "means" else set())


@pytest.mark.parametrize("name", FILES)
def test_rows_of_a_version_that_is_not_here_are_refused_and_not_taken_again_by_another(name: str) -> None:
    version = 0 if name in HERE else FILES[name][0]["rule_version"]
    for row in FILES[name]:
        with pytest.raises(UnknownRuleError):
            replay(decision({**row, "rule_version": version}))
