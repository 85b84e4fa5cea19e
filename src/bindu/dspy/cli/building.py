"""``bindu dataset build`` and ``bindu dataset export``: the whole golden dataset, counted or as a file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from bindu.dspy.cli.files import write_file, write_stdout
from bindu.dspy.cli.output import AgentOption, DryRunOption, JsonOption, emit, run, stack
from bindu.dspy.dataset import build_dataset
from bindu.dspy.insights.figures import funnel_rows
from bindu.dspy.insights.material import Material, training_material
from bindu.dspy.models import Dataset, Interaction
from bindu.dspy.sheet import sheet
from bindu.settings import agent_or_default, app_settings

__all__ = ["FeedbackOption", "StrategyOption", "build", "export"]

StrategyOption = Annotated[str, typer.Option(help="last_turn, full_history, last_n:3, ...")]
FeedbackOption = Annotated[bool, typer.Option("--require-feedback", help="Only use interactions with feedback.")]
OptimizerOption = Annotated[
    str | None, typer.Option(help="Who would write the prompt: each needs so many examples; default the worker's.")
]


def build(
    strategy: StrategyOption = "last_turn",
    require_feedback: FeedbackOption = False,
    optimizer: OptimizerOption = None,
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build the dataset as training does, guards included, and say whether a run would begin; nothing is written.

    Example: bindu dataset build --require-feedback
    """
    found = run(
        lambda: training_material(
            strategy, require_feedback=require_feedback, optimizer=optimizer, agent_id=agent_or_default(agent)
        )
    )
    told = {"sentence": found.sentence, "optimizer": found.optimizer, "funnel": found.dataset.funnel}
    told |= {"counts": found.counts, "needs": found.needs}
    emit(told | {"split": found.split, "refusal": found.refusal}, as_json=as_json, text=lambda: _built(found))


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to; '-' is standard output.")],
    strategy: StrategyOption = "last_turn",
    require_feedback: FeedbackOption = False,
    dry_run: DryRunOption = False,
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write golden examples and failures as JSON lines, newest first, each with where it comes from.

    They hold what users wrote: the file is readable to you alone.

    Example: bindu dataset export golden.jsonl --require-feedback
    """

    async def service() -> Dataset:
        return await build_dataset(
            None,
            strategy,
            require_feedback,
            app_settings.dspy.min_feedback_threshold,
            agent_id=agent_or_default(agent),
        )

    found = run(service)
    examples = _examples(found, agent_or_default(agent), strategy)
    told: dict[str, Any] = {"examples": len(examples), "funnel": found.funnel, "dry_run": dry_run}
    lines = "".join(f"{json.dumps(one, default=str, ensure_ascii=False)}\n" for one in examples)
    data = lines.encode("utf-8", "backslashreplace")  # half characters, which UTF-8 does not have
    if str(file) != "-" or dry_run:
        sentence = write_file(file, data, f"{len(examples):,} examples", dry_run=dry_run)
        emit({"sentence": sentence, "file": str(file), **told}, as_json=as_json, text=lambda: sentence)
    elif as_json:
        emit({**told, "examples": examples}, as_json=True, text=str)
    else:
        write_stdout(data)


def _examples(found: Dataset, agent_id: str, strategy: str) -> list[dict[str, Any]]:
    """Each once, golden ones first."""
    golden = {(one.id, one.window) for one in found.golden}
    failed = {(one.id, one.window) for one in found.failures}
    once: dict[Any, Interaction] = {(one.id, one.window): one for one in (*found.golden, *found.failures)}
    return [
        {
            "golden": key in golden,
            "failure": key in failed,
            "agent_id": agent_id,
            "strategy": strategy,
            **{field.name: getattr(one, field.name) for field in dataclasses.fields(one)},
            "created_at": None if one.created_at is None else one.created_at.isoformat(),
        }
        for key, one in once.items()
    ]


def _built(found: Material) -> RenderableType:
    rows = [(what, number, "") for what, number in funnel_rows(found.dataset.funnel)]
    rows += [
        (name.replace("_", " "), f"{number:,}", f"{found.needs[name]:,}" if name in found.needs else "")
        for name, number in found.counts.items()
    ]
    rows += [(f"conversations that {_DOES[name]}", f"{number:,}", "") for name, number in (found.split or {}).items()]
    return stack(found.sentence, sheet("what", "count", "needed", rows=rows))


_DOES = {"train": "teach", "select": "choose", "accept": "prove"}
