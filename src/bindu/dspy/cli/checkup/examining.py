"""All checks, in the order in which one builds on the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from time import monotonic
from typing import Final

from bindu.dspy.cli.checkup.agent import agent_findings
from bindu.dspy.cli.checkup.database import database_findings
from bindu.dspy.cli.checkup.finding import Finding, problem
from bindu.dspy.cli.checkup.machine import extra_findings, server_finding, spool_finding, upstream_finding
from bindu.dspy.cli.checkup.model import asked_model, model_finding
from bindu.dspy.cli.checkup.setting import settings_findings
from bindu.dspy.errors import BinduError
from bindu.settings import SettingsError
from bindu.utils.patience import within

__all__ = ["examine"]

PATIENCE: Final = 4.0  # seconds for a step that waits for the database
ALL: Final = 7.0  # seconds for both: with start and end of the process, and a second for the server, below ten


async def examine(agent_id: str | None, *, ask_model: bool = False) -> AsyncIterator[Finding]:
    """Look at everything; what cannot be looked at without the settings, or without the database, is left out."""
    readable = True
    for one in settings_findings():
        readable = readable and one.state != "problem"
        yield one
    if readable:
        async for one in _of_database(agent_id):
            yield one
        yield model_finding()
        if ask_model:
            yield asked_model()
        yield spool_finding()
        yield server_finding()
    for one in extra_findings():
        yield one
    yield upstream_finding()


async def _of_database(agent_id: str | None) -> AsyncIterator[Finding]:
    began = monotonic()
    found = await database_findings(PATIENCE)
    for one in found:
        yield one
    if any(one.state == "problem" for one in found):
        return
    left = min(PATIENCE, ALL - (monotonic() - began))
    try:
        for one in await within(left, agent_findings(agent_id)):
            yield one
    except (BinduError, SettingsError) as error:
        yield problem("agent", str(error), "Put that right, then run 'bindu doctor' again.", configuration=True)
    except TimeoutError:
        told = f"The database did not say within {left:.0f} seconds."
        yield problem("agent", told, "Run 'bindu doctor' again.", configuration=True)
