"""``bindu status``: how an agent's prompt is doing, a sentence first."""

from __future__ import annotations

from collections.abc import Iterable

from bindu.dspy.cli.band import PlotOption, band_of
from bindu.dspy.cli.output import AgentOption, JsonOption, emit, plot_width, run, short, stack
from bindu.dspy.insights import agent_status
from bindu.dspy.reports import AgentStatus
from bindu.settings import agent_or_default

__all__ = ["status"]


def status(plot: PlotOption = None, agent: AgentOption = None, as_json: JsonOption = False) -> None:
    """Say what is served, what is on trial and what was last decided; in a terminal, draw the difference over time.

    Example: bindu status --agent support
    """
    width = plot_width(asked=plot)
    found = run(lambda: agent_status(agent_id=agent_or_default(agent), with_band=as_json or width is not None))
    emit(found, as_json=as_json, text=lambda: stack(*_lines(found), *band_of(found, width)))


def _lines(found: AgentStatus) -> Iterable[str]:
    yield found.sentence
    if found.decisions:
        last = found.decisions[0]
        yield f"Last decision, {last.at:%Y-%m-%d %H:%M %Z}, by {last.actor}: {last.verdict}. {short(last.reason)}"
    if found.caution is not None:
        yield found.caution
