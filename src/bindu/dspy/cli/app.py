"""The ``bindu`` command: one program, one module per command."""

from __future__ import annotations

import sys

try:
    import typer

    from bindu.dspy.cli import (
        audit,
        canary,
        config,
        dataset,
        db,
        demo,
        doctor,
        feedback,
        init,
        keys,
        prompt,
        runs,
        serve,
        status,
        train,
        worker,
    )
    from bindu.dspy.cli.output import start
except KeyboardInterrupt:  # loading takes long enough for a person to change their mind
    sys.stderr.write("interrupted\n")
    raise SystemExit(130) from None

__all__ = ["app", "main"]

app = typer.Typer(
    name="bindu",
    help="Improve an agent's system prompt from what its users say: safely, measured and reversible.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("init")(init.init)
app.command("doctor")(doctor.doctor)
app.command("status")(status.status)
app.command("serve")(serve.serve)
app.command("worker")(worker.worker)
app.command("train")(train.train)
app.add_typer(runs.app, name="runs")
app.add_typer(canary.app, name="canary")
app.add_typer(prompt.app, name="prompt")
app.add_typer(dataset.app, name="dataset")
app.add_typer(feedback.app, name="feedback")
app.add_typer(keys.app, name="keys")
app.add_typer(db.app, name="db")
app.add_typer(audit.app, name="audit")
app.add_typer(config.app, name="config")


def main() -> None:
    """Entry point of the installed ``bindu`` script."""
    start(app)


if __name__ == "__main__":
    main()
