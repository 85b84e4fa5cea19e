"""``bindu train``: yesterday's feedback becomes today's candidate. Also ``python -m bindu.dspy.cli.train``."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from bindu.dspy.cli.output import REFUSED, AgentOption, DryRunOption, JsonOption, emit, run, start
from bindu.dspy.models import TrainingRun
from bindu.dspy.strategies import parse_strategy
from bindu.settings import agent_or_default

__all__ = ["train"]


def train(
    optimizer: Annotated[str, typer.Option(help="Who writes the new prompt: simba.")] = "simba",
    strategy: Annotated[
        str, typer.Option(help="Which part of a conversation to learn from: last_turn, full_history, last_n:3, ...")
    ] = "last_turn",
    require_feedback: Annotated[
        bool, typer.Option("--require-feedback", help="Only use interactions with feedback.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Repeat a run; default DSPY__TRAINING__SEED.")] = None,
    ok_if_skipped: Annotated[bool, typer.Option("--ok-if-skipped", help="Exit 0 when a guard refuses.")] = False,
    dry_run: DryRunOption = False,
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a candidate prompt and put it on trial with 10 % of the traffic.

    Example: bindu train --optimizer simba --strategy last_turn --require-feedback
    """

    async def service() -> TrainingRun:
        from bindu.dspy.train import run_training  # noqa: PLC0415 - DSPy loads only where it is needed

        return await run_training(
            optimizer,
            parse_strategy(strategy),
            require_feedback,
            agent_id=agent_or_default(agent),
            seed=seed,
            dry_run=dry_run,
        )

    result = run(service, refused=0 if ok_if_skipped else REFUSED, level=logging.INFO)
    emit(result, as_json=as_json, text=lambda: _sentence(result))


def _sentence(result: TrainingRun) -> str:
    return f"{result.outcome or 'Nothing was spent'}: {result.reason}"


def main() -> None:
    """Entry point of ``python -m bindu.dspy.cli.train``."""
    program = typer.Typer(pretty_exceptions_enable=False)
    program.command()(train)
    start(program)


if __name__ == "__main__":
    main()
