"""HTML pages: one environment of templates, with the headers that keep browsers from doing more than shown."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from bindu.dspy.models import TrainingRun
from bindu.dspy.reports import AgentStatus
from bindu.dspy.sheet import Sheet
from bindu.dspy.web.dashboard.assets import asset_url
from bindu.dspy.web.dashboard.texts import shown

__all__ = ["HEADERS", "environment", "link", "page"]

HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
    "referrer-policy": "same-origin",  # 'no-referrer' would make the origin of a form 'null'
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def page(
    template: str, context: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> HTMLResponse:
    """A template as an answer."""
    text = environment().get_template(template).render(context)
    return HTMLResponse(text.encode("utf-8", "replace"), status, {**HEADERS, **(headers or {})})


def link(path: str, **query: object) -> str:
    """The address of a page of ours."""
    given = {name: str(value) for name, value in query.items() if value is not None}
    return f"/dashboard{path}" + (f"?{urlencode(given, errors='replace')}" if given else "")


@cache
def environment() -> Environment:
    """The templates of this package, and those that others bring beside them, with what all of them may use."""
    made = Environment(
        loader=PackageLoader("bindu.dspy.web.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"text": shown, "when": _when, "share": _share, "score": _score, "words": _words}
    made.filters |= {"done": _done, "trial": _trial}
    made.globals |= {"asset": asset_url, "link": link}
    made.tests["sheet"] = lambda value: isinstance(value, Sheet)
    return made


def _when(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M %Z}"


def _share(value: float) -> str:
    return f"{value:.0%}"


def _score(value: float | None) -> str:
    return "not rated" if value is None else f"{value:.3f}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _trial(status: AgentStatus) -> str:
    """What a form about the experiment is made for: another one, or another state of it, needs another form."""
    experiment = status.experiment
    return "" if experiment is None else f"{experiment.id} {experiment.state} {experiment.paused}"


def _done(run: TrainingRun) -> float | None:
    """The part of its calls that a running run has made, None while it does not tell; anything may be stored."""
    told = run.details.get("progress")
    calls = [told.get(name) for name in ("calls_done", "calls_expected")] if isinstance(told, dict) else []
    match calls:
        case [int(done), int(expected)] if run.state == "running" and expected > 0:
            return min(1.0, max(0.0, done / expected))
        case _:
            return None
