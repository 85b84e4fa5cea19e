"""``bindu doctor``: what is amiss, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from bindu.dspy.cli.output import CONFIGURATION, AgentOption, JsonOption, emit, run, styled

if TYPE_CHECKING:
    from bindu.dspy.cli.checkup import Finding, State

__all__ = ["doctor"]

STYLES: Final[dict[State, str]] = {"ok": "green", "note": "dim", "warning": "yellow", "problem": "bold red"}
PROBLEM: Final = 1


def doctor(
    model: Annotated[bool, typer.Option("--model", help="Ask the model for one word too, which costs a call.")] = False,
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at the settings, the database, the agent's loop and what is installed; change nothing.

    Exit codes: 0 without a problem, 4 when settings, database or prompt are one, 1 for any other. It ends within ten
    seconds, whatever is silent.

    Example: bindu doctor
    """

    async def service() -> list[Finding]:
        from bindu.dspy.cli.checkup import examine  # noqa: PLC0415 - HTTP and TLS, which no other command loads

        return [one async for one in examine(agent, ask_model=model)]

    found = run(service)
    problems = [one for one in found if one.state == "problem"]
    sentence = _sentence(found)
    told = {"sentence": sentence, "healthy": not problems, "findings": found}
    emit(told, as_json=as_json, text=lambda: _report(found, sentence))
    if problems:
        raise typer.Exit(CONFIGURATION if any(one.configuration for one in problems) else PROBLEM)


def _report(found: list[Finding], sentence: str) -> Text:
    lines: list[tuple[str, str]] = []
    for one in found:
        lines += [(f"{one.state:<8}", STYLES[one.state]), (f"{one.check}: {one.text}\n", "")]
        if one.advice:
            lines.append((f"{'':<8}{one.advice}\n", "dim"))
    return styled([*lines, (sentence, "bold")])


def _sentence(found: list[Finding]) -> str:
    counts = [(sum(one.state == state for one in found), state) for state in ("problem", "warning")]
    said = " and ".join(f"{number} {state}{'' if number == 1 else 's'}" for number, state in counts if number)
    return f"There {'is' if said.startswith('1 ') else 'are'} {said}." if said else "All is well."
