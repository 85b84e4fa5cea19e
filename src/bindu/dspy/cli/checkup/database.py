"""Whether the database answers, and is one that this version can use. Nothing is changed or made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bindu.dspy.cli.checkup.finding import Finding, ok, problem, warning
from bindu.dspy.cli.database import named_database, named_url
from bindu.dspy.errors import BinduError, StorageNotConfiguredError
from bindu.dspy.postgres.embedded import folder_of
from bindu.dspy.postgres.look import ServerReport, look
from bindu.utils.patience import within

__all__ = ["database_findings"]

OLDEST: Final = 15
SLOW: Final = 50.0  # milliseconds of one answer
CLOCK: Final = 5.0  # seconds between two clocks that anybody may shrug at

_MEANWHILE: Final = "Agents that 'bindu serve' answers get the last good prompt meanwhile."


async def database_findings(patience: float) -> list[Finding]:
    """``patience`` is in seconds, for all of it."""
    try:
        folder = folder_of(named_url())
        if folder is not None and not (folder / "data").is_dir():
            why = f"There is no embedded database in {folder} yet."
            return [problem("database", why, "Run 'bindu init'.", configuration=True)]
        with named_database() as url:
            report = await within(patience, look(url, patience=patience))
    except StorageNotConfiguredError as error:
        return [problem("database", str(error), "'bindu init' does it for you.", configuration=True)]
    except BinduError as error:
        return [problem("database", str(error), _MEANWHILE, configuration=True)]
    except TimeoutError:
        why = f"It did not answer within {patience:.0f} seconds."
        advice = f"Check STORAGE__POSTGRES_URL and the network. {_MEANWHILE}"
        return [problem("database", why, advice, configuration=True)]
    place = report.place if folder is None else f"embedded:{folder}"
    return list(_findings(report, place))


def _findings(report: ServerReport, place: str) -> Iterator[Finding]:
    told = f"PostgreSQL {report.version} at {place} answers in {report.milliseconds:.1f} ms."
    if report.number < OLDEST:
        yield problem("database", told, f"It must be {OLDEST} or newer.", configuration=True)
    elif report.replica:
        yield problem("database", f"{told} It takes no writes.", "Name the primary server.", configuration=True)
    elif report.milliseconds > SLOW:
        yield warning("database", told, "Bring it nearer: recording and training wait for it; serving does not.")
    else:
        yield ok("database", told)
    yield _schema(report)
    if abs(report.ahead) > CLOCK:
        told = f"The database's is {abs(report.ahead):.0f} s {'ahead of' if report.ahead > 0 else 'behind'} this one's."
        yield warning("clock", told, "Set both by NTP: decisions follow the database's clock.")
    else:
        yield ok("clock", f"It differs from the database's by {abs(report.ahead):.1f} s.")


def _schema(report: ServerReport) -> Finding:
    schema = report.schema
    if schema.unknown:
        told = f"It is newer than this version: {', '.join(schema.unknown)}."
        return problem("schema", told, "Upgrade bindu-dspy.", configuration=True)
    if schema.pending:
        told = f"It lacks {', '.join(schema.pending)}."
        return problem("schema", told, "Run 'bindu db upgrade'.", configuration=True)
    return ok("schema", f"It is current: {schema.applied[-1]}.")
