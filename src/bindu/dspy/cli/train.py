"""``bindu train``: yesterday's feedback becomes today's candidate. Also ``python -m bindu.dspy.cli.train``."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated
from uuid import UUID

import typer

from bindu.dspy.cli.background import start_in_background
from bindu.dspy.cli.bar import bar
from bindu.dspy.cli.output import REFUSED, AgentOption, DryRunOption, JsonOption, emit, run, start
from bindu.dspy.errors import StorageUnavailableError
from bindu.dspy.models import TrainingRun
from bindu.dspy.strategies import parse_strategy
from bindu.settings import agent_or_default

__all__ = ["train"]


OptimizerOption = Annotated[
    str, typer.Option(help="Who writes the prompt: simba, gepa (where users comment), miprov2, or your own.")
]
StrategyOption = Annotated[
    str, typer.Option(help="Which part of a conversation to learn from: last_turn, full_history, last_n:3, ...")
]
FeedbackOption = Annotated[bool, typer.Option("--require-feedback", help="Only use interactions with feedback.")]
ObjectiveOption = Annotated[
    str, typer.Option(help="What is better: judge, reward_model, correction, or imitation (a baseline).")
]
SeedOption = Annotated[int | None, typer.Option(help="Repeat a run; default DSPY__TRAINING__SEED.")]
CallsOption = Annotated[int | None, typer.Option(min=1, help="Of models; default DSPY__TRAINING__MAX_CALLS.")]
CostOption = Annotated[float | None, typer.Option(help="US dollars; default DSPY__TRAINING__MAX_COST.")]
MinutesOption = Annotated[float | None, typer.Option(help="Default DSPY__TRAINING__MAX_MINUTES.")]
MarginOption = Annotated[float | None, typer.Option(help="Of the proof; default DSPY__TRAINING__ACCEPT_MARGIN.")]
ResumeOption = Annotated[
    bool | None, typer.Option("--resume/--fresh", help="Insist on going on with a run that was left, or begin anew.")
]
DetachOption = Annotated[bool, typer.Option("--detach", help="Return at once and train in the background.")]
SkippedOption = Annotated[bool, typer.Option("--ok-if-skipped", help="Exit 0 when a guard refuses.")]


def train(
    optimizer: OptimizerOption = "simba",
    strategy: StrategyOption = "last_turn",
    require_feedback: FeedbackOption = False,
    objective: ObjectiveOption = "judge",
    seed: SeedOption = None,
    max_calls: CallsOption = None,
    max_cost: CostOption = None,
    max_minutes: MinutesOption = None,
    accept_margin: MarginOption = None,
    resume: ResumeOption = None,
    detach: DetachOption = False,
    ok_if_skipped: SkippedOption = False,
    run_id: Annotated[str | None, typer.Option(hidden=True)] = None,
    for_worker: Annotated[bool, typer.Option("--for-worker", hidden=True)] = False,
    dry_run: DryRunOption = False,
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a candidate prompt and put it on trial with 10 % of the traffic.

    A run that was killed or ran out of budget goes on when the same command is run again. --dry-run tells the price.

    Example: bindu train --optimizer gepa --require-feedback --max-cost 2.50
    """
    refused = 0 if ok_if_skipped else REFUSED
    if detach and not dry_run:
        _detach(agent, refused, as_json)
        return

    async def service() -> TrainingRun:
        from bindu.dspy.train import Limits, run_training  # noqa: PLC0415 - DSPy loads only where it is needed

        with bar() as watch, _outage_told(for_worker):
            return await run_training(
                optimizer,
                parse_strategy(strategy),
                require_feedback,
                agent_id=agent_or_default(agent),
                seed=seed,
                objective=objective,  # type: ignore[arg-type] # checked there, with a sentence
                limits=Limits(max_calls, max_cost, max_minutes, accept_margin),
                resume=resume,
                run_id=None if run_id is None else UUID(run_id),
                watch=watch,
                dry_run=dry_run,
            )

    result = run(service, refused=refused, level=logging.INFO)
    emit(result, as_json=as_json, text=lambda: _sentence(result))


def _detach(agent: str | None, refused: int, as_json: bool) -> None:
    begun = run(lambda: start_in_background(agent_or_default(agent)), refused=refused)
    emit(begun, as_json=as_json, text=lambda: begun.sentence)


@contextmanager
def _outage_told(for_worker: bool) -> Iterator[None]:
    """Tell the worker, which sees exit code 4 of much that is not worth another try, that this is."""
    try:
        yield
    except StorageUnavailableError as error:
        if for_worker:
            emit({"storage_unavailable": {"where": error.where, "cause": error.cause}}, as_json=True, text=str)
        raise


def _sentence(result: TrainingRun) -> str:
    return f"{result.outcome or 'Nothing was spent'}: {result.reason}"


def main() -> None:
    """Entry point of ``python -m bindu.dspy.cli.train``."""
    program = typer.Typer(pretty_exceptions_enable=False)
    program.command()(train)
    start(program)


if __name__ == "__main__":
    main()
