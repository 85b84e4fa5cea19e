"""``bindu db``: the database's schema, and how long its rows are kept."""

from __future__ import annotations

import typer

from bindu.dspy.cli import retention
from bindu.dspy.cli.database import named_database
from bindu.dspy.cli.output import DryRunOption, JsonOption, emit, run
from bindu.dspy.postgres import migrate

__all__ = ["app"]

app = typer.Typer(
    help="Bring the database to this version's schema; drop old months or one person.", no_args_is_help=True
)
app.command("prune")(retention.prune)
app.command("erase")(retention.erase)


@app.command("upgrade")
def upgrade(dry_run: DryRunOption = False, as_json: JsonOption = False) -> None:
    """Apply the migrations that the database does not have yet.

    Example: bindu db upgrade
    """

    async def service() -> list[str]:
        with named_database() as database:
            return (await migrate.check(database)).pending if dry_run else await migrate.upgrade(database)

    names = run(service)
    verb = "Would apply" if dry_run else "Applied"
    result = {"pending" if dry_run else "applied": names, "dry_run": dry_run}
    emit(result, as_json=as_json, text=lambda: f"{verb} {', '.join(names)}." if names else "The schema is current.")


@app.command("check")
def check(as_json: JsonOption = False) -> None:
    """Say which migrations are applied, pending, or unknown to this version.

    Example: bindu db check --json
    """

    async def service() -> migrate.SchemaReport:
        with named_database() as database:
            return await migrate.check(database)

    report = run(service)
    emit(report, as_json=as_json, text=lambda: _report(report))


def _report(report: migrate.SchemaReport) -> str:
    if report.unknown:
        return f"The database is newer than this version ({', '.join(report.unknown)}). Upgrade bindu-dspy."
    if report.pending:
        return f"Pending: {', '.join(report.pending)}. Run 'bindu db upgrade'."
    return f"The schema is current ({', '.join(report.applied)})."
