"""One pool, and the one place where the driver's errors become ours."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias, TypeVar
from urllib.parse import SplitResult, parse_qs, urlsplit

import asyncpg
from asyncpg import Record
from asyncpg.pool import PoolConnectionProxy

from bindu.dspy.errors import BinduError, SchemaError, StorageUnavailableError
from bindu.dspy.postgres.queries import QUERIES
from bindu.settings import StorageSettings

__all__ = [
    "UNREADABLE",
    "Connection",
    "Database",
    "as_columns",
    "check_url",
    "driver_url",
    "has_table",
    "is_away",
    "is_number",
    "one",
    "row",
    "rows",
    "translated",
    "where",
]

Connection: TypeAlias = "asyncpg.Connection[Record] | PoolConnectionProxy[Record]"
_Result = TypeVar("_Result")

_RETRIES = 5
_CONFLICTS = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
_WRONG_SCHEMA = (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.InvalidSchemaNameError)
# The connection, its authorisation, the server's resources or its operator: not the statement
_AWAY_CLASSES = ("08", "28", "3D", "53", "57", "58")
_AWAY_STATES = ("25006", "42501", "55000")  # a standby that only reads, no privileges, a database closed by its owner

UNREADABLE = "the URL in STORAGE__POSTGRES_URL"
_FORM = (
    "postgresql://user:password@host:port/database with the password's special characters as %-codes, such as "
    "%40 for @ and %2F for /"
)
_PLAIN_URL = re.compile(
    r"postgres(?:ql)?://(?:[^@/?#\s]*@)?"  # the only @ there is
    r"(?:[\w.,%-]*|\[[\w:.%]+\])(?::\d+)?"
    r"(?:/[\w.%~+-]*)?(?:\?[^@#\s]*)?"
)
_PLAIN_PLACE = re.compile(r"[\w.,:%/~+ \[\]-]*")


def driver_url(url: str) -> str:
    """The URL without what only SQLAlchemy understands."""
    return url.replace("postgresql+asyncpg://", "postgresql://", 1)


def _parts(url: str) -> SplitResult | None:
    """The parts of a URL in which nothing can be a piece of a password out of place, else None."""
    address = driver_url(url)
    if not _PLAIN_URL.fullmatch(address):
        return None
    try:
        parts = urlsplit(address)
        return parts if parts.port is None or parts.port else None
    except ValueError:  # a port or an address of version 6 that cannot be
        return None


def where(url: str) -> str:
    """Host, port and database of a URL, fit to be shown: never the user's password, however the URL is misspelt."""
    parts = _parts(url)
    if parts is None:
        return UNREADABLE
    query = parse_qs(parts.query)
    host = parts.netloc.rpartition("@")[2] or query.get("host", ["the default host"])[0]
    place = f"{host}/{parts.path.lstrip('/') or query.get('dbname', query.get('database', ['']))[0]}"
    return place if _PLAIN_PLACE.fullmatch(place) else UNREADABLE


def check_url(url: str) -> None:
    """Raise StorageUnavailableError for a URL that is misspelt: the driver's error would show its password."""
    if _parts(url) is None:
        raise StorageUnavailableError(UNREADABLE, f"it is not of the form {_FORM}")


def is_away(error: asyncpg.PostgresError) -> bool:
    """Whether it is the database that cannot be used, rather than the statement that is wrong."""
    state = error.sqlstate or ""
    return state[:2] in _AWAY_CLASSES or state in _AWAY_STATES


def is_number(number: int) -> bool:
    """Whether a prompt or an experiment can have it: they count up from 1 in 32 bits."""
    return isinstance(number, int) and 0 < number < 2**31


async def has_table(connection: Connection, name: str) -> bool:
    """Whether our schema has the table by now, even in a transaction that waited while another process made it.

    ``to_regclass`` answers from names looked up earlier, and these are not forgotten inside a transaction.
    """
    there = "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'bindu_dspy' AND tablename = $1)"
    return bool(await connection.fetchval(there, name))


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Raise our errors for the driver's: StorageUnavailableError, SchemaError, else BinduError."""
    try:
        yield
    except BinduError:
        raise
    except asyncpg.PostgresError as error:
        if is_away(error):
            raise StorageUnavailableError(place, _sentence(error)) from error
        if isinstance(error, _WRONG_SCHEMA):
            raise SchemaError(f"The schema of {place} is not ours: {error}. Run 'bindu db upgrade'.") from error
        raise BinduError(f"PostgreSQL at {place} refused a statement: {error}") from error
    except TimeoutError as error:
        raise StorageUnavailableError(place, "it did not answer in time") from error
    except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        if isinstance(error, ValueError) and not isinstance(error, asyncpg.ClientConfigurationError):
            raise BinduError(f"PostgreSQL cannot take a value: {error}") from error
        raise StorageUnavailableError(place, _sentence(error)) from error


def _sentence(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).rstrip(".")


class Database:
    """A pool with named queries, transactions and retries; what the verbs are written with."""

    def __init__(self, pool: asyncpg.Pool[Record], place: str, settings: StorageSettings) -> None:
        self._pool = pool
        self._place = place
        self._patience = settings.connect_timeout  # seconds for a connection of the pool to become free
        # A statement that is not cached takes two round trips, between which PgBouncer may change the server
        self._together = settings.statement_cache_size == 0

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        with translated(self._place):
            async with self._pool.acquire(timeout=self._patience) as connection:
                yield connection

    async def _transact(self, work: Callable[[Connection], Awaitable[_Result]]) -> _Result:
        """Run ``work`` in one transaction, again when it lost against another one."""

        async def attempt(connection: Connection) -> _Result:
            async with connection.transaction():
                return await work(connection)

        return await self._retry(attempt)

    async def _look(self, work: Callable[[Connection], Awaitable[_Result]]) -> _Result:
        """Run ``work``, which only reads, on one state of the database."""

        async def attempt(connection: Connection) -> _Result:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                return await work(connection)

        return await self._retry(attempt)

    async def _retry(self, work: Callable[[Connection], Awaitable[_Result]]) -> _Result:
        tries = 0
        while True:
            async with self._connection() as connection:
                try:
                    return await work(connection)
                except _CONFLICTS:
                    tries += 1
                    if tries > _RETRIES:
                        raise
            await asyncio.sleep(0.01 * 2**tries)

    async def _rows(self, name: str, /, **values: Any) -> list[Record]:
        run = self._transact if self._together else self._retry
        return await run(lambda connection: rows(connection, name, **values))

    async def _row(self, name: str, /, **values: Any) -> Record | None:
        found = await self._rows(name, **values)
        return found[0] if found else None

    async def _value(self, name: str, /, **values: Any) -> Any:
        found = await self._row(name, **values)
        return None if found is None else found[0]


def as_columns(names: Sequence[str], values: Sequence[tuple[Any, ...]]) -> dict[str, list[Any]]:
    """Rows as the arrays that ``unnest`` takes, by the names of a query's parameters."""
    if not values:
        return {name: [] for name in names}
    return dict(zip(names, map(list, zip(*values, strict=True)), strict=True))


async def rows(connection: Connection, name: str, /, **values: Any) -> list[Record]:
    """All rows of a named query."""
    query = QUERIES[name]
    return await connection.fetch(query.sql, *query.arguments(values))


async def one(connection: Connection, name: str, /, **values: Any) -> Record:
    """The only row of a named query that always has one."""
    found = await row(connection, name, **values)
    if found is None:
        raise LookupError(f"the query {name} returned no row")
    return found


async def row(connection: Connection, name: str, /, **values: Any) -> Record | None:
    """The first row of a named query."""
    query = QUERIES[name]
    return await connection.fetchrow(query.sql, *query.arguments(values))
