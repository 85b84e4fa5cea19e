"""The database that the settings name, for commands that look at it before a storage could be opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bindu.dspy.errors import StorageNotConfiguredError
from bindu.dspy.postgres import embedded
from bindu.settings import app_settings

__all__ = ["named_database", "named_url"]


def named_url() -> str:
    """STORAGE__POSTGRES_URL. Raises StorageNotConfiguredError."""
    url = app_settings.storage.postgres_url
    if url is None or not url.get_secret_value():
        raise StorageNotConfiguredError
    return url.get_secret_value()


@contextmanager
def named_database() -> Iterator[str]:
    """The URL of the database that the settings name, with an embedded server up for the while."""
    url = named_url()
    folder = embedded.folder_of(url)
    if folder is None:
        yield url
        return
    server = embedded.start(folder)
    try:
        yield server.url
    finally:
        server.close()
