"""Names loggers and configures nothing: the application decides what is shown."""

import logging

__all__ = ["get_logger"]


def get_logger(name: str) -> logging.Logger:
    """Return the standard library's logger of that name."""
    return logging.getLogger(name)
