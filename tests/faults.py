"""Ways to die: between two verbs of a storage, and inside a transaction of one."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

import asyncpg

from bindu.dspy.storage import Storage

Event = Literal["INSERT", "UPDATE"]
Moment = Literal["before", "after", "commit"]
Manner = Literal["terminate", "refuse"]


class Killed(BaseException):
    """The process is gone; nothing may catch this."""


class FaultyStorage:
    """Any storage, killed at its n-th verb (counted from 1): before the verb, or after it was done.

    From then on every verb is killed, as a dead process does nothing more. ``calls`` are the verbs asked for so far,
    so that ``len(calls)`` of an undisturbed run (``fail_at=0``) says how many places there are to die at.
    """

    def __init__(self, storage: Storage, *, fail_at: int = 0, after: bool = False) -> None:
        self._storage = storage
        self._fail_at = fail_at
        self._after = after
        self.calls: list[str] = []

    async def close(self) -> None:
        """Not counted: whoever is killed closes nothing, and a test must be able to."""
        await self._storage.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb = getattr(self._storage, name)

        async def answered(*arguments: Any, **options: Any) -> Any:
            self._knock(name)
            result = await verb(*arguments, **options)
            self._leave()
            return result

        async def streamed(*arguments: Any, **options: Any) -> AsyncIterator[Any]:
            self._knock(name)
            async for item in verb(*arguments, **options):
                yield item
            self._leave()

        return streamed if inspect.isasyncgenfunction(verb) else answered

    def _knock(self, name: str) -> None:
        self.calls.append(name)
        if self._fail_at and len(self.calls) >= self._fail_at + self._after:
            raise Killed(f"before {name}")

    def _leave(self) -> None:
        if self._after and len(self.calls) == self._fail_at:
            raise Killed(f"after {self.calls[-1]}")


async def break_writes(url: str, write: tuple[str, Event], *, moment: Moment, manner: Manner) -> None:
    """Let every such write fail, say ``("serving", "UPDATE")``: the server ends the session or refuses the statement.

    ``commit`` lets all statements through and fails the COMMIT. ``mend_writes`` takes it back.
    """
    table, event = write
    action = {"terminate": "PERFORM pg_terminate_backend(pg_backend_pid())", "refuse": "RAISE EXCEPTION 'injected'"}
    kind = "CONSTRAINT TRIGGER" if moment == "commit" else "TRIGGER"
    when = "BEFORE" if moment == "before" else "AFTER"
    deferred = "DEFERRABLE INITIALLY DEFERRED" if moment == "commit" else ""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            f"""
            CREATE SCHEMA IF NOT EXISTS faults;
            CREATE OR REPLACE FUNCTION faults.fault() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN {action[manner]}; RETURN NEW; END $$;
            CREATE {kind} fault {when} {event} ON bindu_dspy.{table} {deferred}
                FOR EACH ROW EXECUTE FUNCTION faults.fault();
            """
        )
    finally:
        await connection.close()


async def mend_writes(url: str) -> None:
    """Remove every fault."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("DROP SCHEMA IF EXISTS faults CASCADE")
    finally:
        await connection.close()
