"""An option before the verb is refused: dropped, a dry run would promote, and the wrong agent would be rolled back."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import typer.main
from typer.testing import CliRunner

from bindu.dspy.canary.verbs import Verb
from bindu.dspy.cli import canary
from bindu.dspy.cli.app import app

PROGRAM: Any = typer.main.get_command(app)
GROUPS = PROGRAM.commands
VERBS = sorted(GROUPS["canary"].commands)


@pytest.fixture(autouse=True)
def _nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: object) -> None:
        raise AssertionError("the verb was carried out")

    monkeypatch.setattr(canary, "run", run)


@pytest.mark.parametrize("option", ["--dry-run", "--agent shop", "--json", "--dry-run --agent shop --json"])
@pytest.mark.parametrize("verb", VERBS)
def test_an_option_before_a_verb_of_the_canary_is_sent_behind_it(verb: str, option: str) -> None:
    done = CliRunner().invoke(app, ["canary", *option.split(), verb, "--reason", "Mine."])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"error: Options stand after the verb: 'bindu canary {verb} {option}'. Nothing was done.\n"


def test_no_other_group_takes_options_that_it_could_drop() -> None:
    takers = {name for name, group in GROUPS.items() if hasattr(group, "commands") and group.params}
    assert takers == {"canary"}


def test_whatever_a_person_may_order_has_a_command() -> None:
    assert {command.name for command in canary.app.registered_commands} >= set(get_args(Verb))
