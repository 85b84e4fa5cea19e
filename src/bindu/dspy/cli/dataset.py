"""``bindu dataset``: what training would learn from, and the rubric that it judges answers by."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from bindu.dspy.cli.output import AgentOption, JsonOption, emit, run, table
from bindu.dspy.cli.rubric import rubric
from bindu.dspy.dataset import build_dataset
from bindu.dspy.models import Dataset
from bindu.dspy.strategies import parse_strategy
from bindu.settings import agent_or_default, app_settings

__all__ = ["app"]

app = typer.Typer(help="Look at the golden dataset and the rubric.", no_args_is_help=True)
app.command("rubric")(rubric)


@app.command("preview")
def preview(
    strategy: Annotated[str, typer.Option(help="last_turn, full_history, last_n:3, ...")] = "last_turn",
    require_feedback: Annotated[
        bool, typer.Option("--require-feedback", help="Only use interactions with feedback.")
    ] = False,
    samples: Annotated[int, typer.Option(min=0, help="How many examples to show.")] = 3,
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how many tasks become examples, why the others do not, and a few of them.

    Example: bindu dataset preview --strategy last_n:3 --require-feedback
    """

    async def service() -> Dataset:
        chosen = parse_strategy(strategy)
        return await build_dataset(
            strategy=chosen,
            require_feedback=require_feedback,
            min_feedback_threshold=app_settings.dspy.min_feedback_threshold,
            agent_id=agent_or_default(agent),
        )

    found = run(service)
    shown = {"funnel": found.funnel, "golden": found.golden[:samples], "failures": found.failures[:samples]}
    emit(shown, as_json=as_json, text=lambda: _table(found, samples))


def _table(found: Dataset, samples: int) -> Table:
    funnel = found.funnel
    counts = [("completed, pending and failed tasks", str(funnel.tasks))]
    counts += [(f"- {reason.replace('_', ' ')}", str(count)) for reason, count in sorted(funnel.drops.items())]
    counts += [("golden examples", str(funnel.golden)), ("failures (score below .5)", str(funnel.failures))]
    shown = [
        (f"user: {example.user_input[:160]}\nagent: {example.agent_output[:160]}", _score(example.feedback_score))
        for example in found.golden[:samples]
    ]
    return table("what", "count", title="Golden dataset", rows=[*counts, *shown])


def _score(score: float | None) -> str:
    return "" if score is None else f"{score:.2f}"
