"""``bindu dataset``: what training would learn from, and the rubric that it judges answers by."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from bindu.dspy.cli.building import FeedbackOption, StrategyOption, build, export
from bindu.dspy.cli.output import AgentOption, JsonOption, emit, run, table
from bindu.dspy.cli.rubric import rubric
from bindu.dspy.insights import DatasetPreview, dataset_preview
from bindu.dspy.insights.figures import funnel_rows
from bindu.dspy.models import Interaction
from bindu.settings import agent_or_default

__all__ = ["app"]

app = typer.Typer(help="Look at the golden dataset and the rubric, and export it.", no_args_is_help=True)


@app.command("preview")
def preview(
    strategy: StrategyOption = "last_turn",
    require_feedback: FeedbackOption = False,
    samples: Annotated[int, typer.Option(min=0, help="How many examples to show.")] = 3,
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how many tasks become examples, why the others do not, and a few of them.

    Example: bindu dataset preview --strategy last_n:3 --require-feedback
    """

    found = run(
        lambda: dataset_preview(
            agent_or_default(agent), strategy=strategy, require_feedback=require_feedback, samples=samples
        )
    )
    shown = {"funnel": found.funnel, "golden": found.golden, "failures": found.failures}
    emit(shown, as_json=as_json, text=lambda: _table(found))


app.command("build")(build)
app.command("export")(export)
app.command("rubric")(rubric)


def _table(found: DatasetPreview) -> Table:
    shown = [(_said(example), _score(example.feedback_score)) for example in found.golden]
    return table("what", "count", title="Golden dataset", rows=[*funnel_rows(found.funnel), *shown])


def _said(example: Interaction) -> str:
    lines = [f"user: {example.user_input[:160]}", f"agent: {example.agent_output[:160]}"]
    return "\n".join([*lines, *(f"comment: {comment[:160]}" for comment in example.comments)])


def _score(score: float | None) -> str:
    return "" if score is None else f"{score:.2f}"
