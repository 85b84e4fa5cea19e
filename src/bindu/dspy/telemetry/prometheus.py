"""Prometheus: what this process counted, and the gauges of its agents as they were last read.

Everything is in the client library's default registry, so an application's own ``/metrics`` shows it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Counter, Histogram, Info, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bindu.dspy.errors import BinduError
from bindu.dspy.insights import AgentVitals, agent_vitals
from bindu.dspy.prompt_selector import snapshot_ages
from bindu.dspy.storage import agent_named
from bindu.dspy.telemetry.figures import SpoolFigures
from bindu.utils.logging import get_logger
from bindu.utils.version import code_version

__all__ = [
    "count_exposure",
    "counted_feedback",
    "counted_request",
    "metrics_text",
    "refresh_gauges",
    "show_spool",
]

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
GAUGES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "bindu_traffic_ratio": ("Share of the requests, in [0, 1].", ("agent", "arm")),
    "bindu_score_difference": ("Candidate minus active, with the bounds of its 95 % band.", ("agent", "bound")),
    "bindu_feedback_ratio": ("Units with feedback among those assigned, in closed windows.", ("agent", "arm")),
    "bindu_experiment_running": ("1 while a candidate is on trial.", ("agent",)),
    "bindu_experiment_needs_person": ("1 while the controller leaves the decision to a person.", ("agent",)),
    "bindu_windows_due": ("Windows that have ended and wait for a run of the controller.", ("agent",)),
    "bindu_sample_ratio_mismatch": ("1 when units were not assigned by the shares.", ("agent",)),
    "bindu_training_last_success_timestamp_seconds": ("When training last ended with a result.", ("agent",)),
    "bindu_snapshot_age_seconds": ("Since what is served was last known to be what is stored.", ("agent",)),
    "bindu_spool_bytes": ("What waits on disk for the database.", ()),
    "bindu_spool_exchanges": ("Exchanges that are not in the database yet, in memory or on disk.", ()),
}
DROPPED: Final = ("bindu_dropped_exchanges", "Exchanges that will never be stored.", ("reason",))

logger = get_logger("bindu.dspy.telemetry")

EXPOSURES: Final = Counter("bindu_exposures", "Prompts served by this process.", ["agent", "arm"])
FEEDBACK: Final = Counter("bindu_feedback", "Votes and remarks stored by this process.", ["agent", "kind"])
REQUESTS: Final = Histogram(
    "bindu_http_request_duration_seconds",
    "Of the server, until the last byte of the answer.",
    ["route", "method", "status"],
    buckets=SECONDS,
)
FAILURES: Final = Counter("bindu_refresh_failures", "Times that an agent's gauges could not be read.")
BUILD: Final = Info("bindu_build", "The version that runs.")


class _Gauges(Collector):
    """Answers a scrape from memory."""

    def __init__(self) -> None:
        self.vitals: dict[str, AgentVitals] = {}
        self.read_spool: Callable[[], SpoolFigures] | None = None
        self.failing: set[str] = set()

    def describe(self) -> Iterable[Metric]:
        return [*_families().values(), CounterMetricFamily(DROPPED[0], DROPPED[1], labels=DROPPED[2])]

    def collect(self) -> Iterable[Metric]:
        families, dropped = _families(), CounterMetricFamily(DROPPED[0], DROPPED[1], labels=DROPPED[2])
        for name, labels, value in self._samples():
            families[name].add_metric(labels, value)
        if self.read_spool is not None:
            spool = self.read_spool()
            families["bindu_spool_bytes"].add_metric((), spool.size)
            families["bindu_spool_exchanges"].add_metric((), spool.exchanges)
            for reason, count in spool.dropped.items():
                dropped.add_metric((reason,), count)
        return [*families.values(), dropped]

    def show(self, agent: str, vitals: AgentVitals | None) -> None:
        if vitals is None:
            self.vitals.pop(agent, None)
        else:
            self.vitals[agent] = vitals

    def _samples(self) -> Iterator[tuple[str, tuple[str, ...], float]]:
        for vitals in list(self.vitals.values()):
            yield from _samples(vitals)
        for agent, age in snapshot_ages().items():
            yield "bindu_snapshot_age_seconds", (agent,), age


def _families() -> dict[str, GaugeMetricFamily]:
    return {name: GaugeMetricFamily(name, text, labels=labels) for name, (text, labels) in GAUGES.items()}


def _samples(vitals: AgentVitals) -> Iterator[tuple[str, tuple[str, ...], float]]:
    agent, standing = vitals.agent_id, vitals.standing
    yield "bindu_traffic_ratio", (agent, "active"), 1 - vitals.share
    yield "bindu_traffic_ratio", (agent, "candidate"), vitals.share
    yield "bindu_experiment_running", (agent,), vitals.running
    yield "bindu_experiment_needs_person", (agent,), vitals.needs_person
    yield "bindu_windows_due", (agent,), vitals.windows_due
    yield "bindu_sample_ratio_mismatch", (agent,), vitals.mismatch
    if vitals.last_trained_at is not None:
        yield "bindu_training_last_success_timestamp_seconds", (agent,), vitals.last_trained_at.timestamp()
    for arm, report in vitals.arms.items():
        if report.units:
            yield "bindu_feedback_ratio", (agent, arm), report.rated / report.units
    if standing is not None and standing.estimate is not None:
        for bound, value in (("estimate", standing.estimate), ("low", standing.low), ("high", standing.high)):
            yield "bindu_score_difference", (agent, bound), value


_gauges: Final = _Gauges()
REGISTRY.register(_gauges)


BUILD.info({"version": code_version()})


def count_exposure(agent: str, arm: str) -> None:
    """One more prompt was served. ``agent`` is one that is stored, or empty."""
    EXPOSURES.labels(agent, arm).inc()


def counted_feedback(agent: str, kind: str) -> None:
    """Count one vote, once it was stored: a name from a request must not become a label before."""
    FEEDBACK.labels(agent, kind).inc()


def counted_request(route: str, method: str, status: int, seconds: float) -> None:
    """Count one HTTP request; ``route`` is the pattern that matched, such as ``/v1/tasks/{id}``, never the path."""
    REQUESTS.labels(route, method if method in METHODS else "other", str(status)).observe(seconds)


def show_spool(read: Callable[[], SpoolFigures] | None) -> None:
    """Ask ``read`` for what waits on disk at every scrape; None ends that. It must not block."""
    _gauges.read_spool = read


async def refresh_gauges(agent_ids: Iterable[str] | None = None) -> None:
    """Read the gauges of these agents, default those that this process serves and DSPY__AGENT_ID; forget all others.

    Agents without a prompt get none. What cannot be read keeps its last values and is counted as a failure.
    """
    asked = dict.fromkeys([agent_named(None), *snapshot_ages()] if agent_ids is None else agent_ids)
    for agent in asked:
        try:
            vitals = await agent_vitals(agent)
        except Exception as error:
            FAILURES.inc()
            if agent not in _gauges.failing:  # said once, however long it lasts
                logger.warning(
                    "The gauges of '%s' cannot be read, the last ones stay: %s",
                    agent,
                    error,
                    exc_info=not isinstance(error, BinduError),
                )
            _gauges.failing.add(agent)
        else:
            _gauges.failing.discard(agent)
            _gauges.show(agent, vitals)
    _gauges.vitals = {agent: vitals for agent, vitals in _gauges.vitals.items() if agent in asked}


def metrics_text() -> tuple[bytes, str]:
    """The answer to a scrape, and its content type. Nothing is read from the database for it."""
    return generate_latest(REGISTRY), CONTENT_TYPE_LATEST
