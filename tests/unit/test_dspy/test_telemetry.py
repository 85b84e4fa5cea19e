"""What a process exports without a database: counters, names on spans, events, and nothing without the libraries."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import _logs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from bindu.dspy import telemetry
from bindu.dspy.telemetry import (
    SpoolFigures,
    counted_exposure,
    counted_feedback,
    counted_request,
    feedback_event,
    metrics_text,
    show_spool,
    told_of_feedback,
)

ROOT = Path(__file__).parents[3]
SERVED = {"id": 7, "agent_id": "support", "arm": "candidate", "prompt_text": "You help."}

_tracing = TracerProvider()


def logger_provider() -> LoggerProvider:
    """The process's, which can be set only once."""
    if not isinstance(_logs.get_logger_provider(), LoggerProvider):
        _logs.set_logger_provider(LoggerProvider())
    provider = _logs.get_logger_provider()
    assert isinstance(provider, LoggerProvider)
    return provider


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    _tracing.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter
    exporter.shutdown()


@pytest.fixture
def events() -> Iterator[InMemoryLogRecordExporter]:
    exporter = InMemoryLogRecordExporter()
    logger_provider().add_log_record_processor(SimpleLogRecordProcessor(exporter))
    yield exporter
    exporter.shutdown()


def sample(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def counted(name: str, **labels: str) -> float:
    return sample(name, **labels) or 0.0


def test_each_served_prompt_is_counted_by_agent_and_arm() -> None:
    before = counted("bindu_exposures_total", agent="support", arm="candidate")
    for _ in range(3):
        counted_exposure(SERVED)
    assert counted("bindu_exposures_total", agent="support", arm="candidate") == before + 3


def test_an_agent_that_nobody_stored_never_becomes_a_label() -> None:
    before = counted("bindu_exposures_total", agent="", arm="default")
    counted_exposure(SERVED | {"id": None, "agent_id": "made-up", "arm": "active"})
    assert counted("bindu_exposures_total", agent="", arm="default") == before + 1
    assert b"made-up" not in metrics_text()[0]


def test_votes_are_counted_by_kind() -> None:
    before = counted("bindu_feedback_total", agent="support", kind="rating")
    counted_feedback("support", "rating")
    assert counted("bindu_feedback_total", agent="support", kind="rating") == before + 1


def test_stored_feedback_is_counted_and_its_vote_emitted_while_words_alone_are_a_remark(
    events: InMemoryLogRecordExporter,
) -> None:
    kinds = ("thumbs_up", "remark")
    before = [counted("bindu_feedback_total", agent="support", kind=kind) for kind in kinds]
    told_of_feedback("support", "t1", ("thumbs_up", 0.0))
    told_of_feedback("support", "t1", None)
    assert [counted("bindu_feedback_total", agent="support", kind=kind) for kind in kinds] == [n + 1 for n in before]
    [event] = events.get_finished_logs()
    said = dict(event.log_record.attributes or {})
    assert (said["gen_ai.evaluation.score.label"], said["bindu.task.id"]) == ("fail", "t1")


def test_requests_are_timed_by_route_and_a_made_up_method_is_one_of_the_others() -> None:
    counted_request("/v1/timed", "POST", 200, 0.003)
    counted_request("/v1/timed", "BREW", 405, 0.001)
    name = "bindu_http_request_duration_seconds"
    assert sample(f"{name}_bucket", route="/v1/timed", method="POST", status="200", le="0.005") == 1
    assert sample(f"{name}_bucket", route="/v1/timed", method="POST", status="200", le="0.0025") == 0
    assert sample(f"{name}_count", route="/v1/timed", method="other", status="405") == 1


def test_what_waits_on_disk_is_asked_for_at_each_scrape() -> None:
    figures = [SpoolFigures(size=10, exchanges=1), SpoolFigures(size=900, exchanges=4, dropped={"spool_full": 2})]
    show_spool(lambda: figures[0])
    assert (sample("bindu_spool_bytes"), sample("bindu_spool_exchanges")) == (10, 1)
    del figures[0]
    assert (sample("bindu_spool_bytes"), sample("bindu_spool_exchanges")) == (900, 4)
    assert sample("bindu_dropped_exchanges_total", reason="spool_full") == 2
    show_spool(None)
    assert sample("bindu_spool_bytes") is None


def test_the_text_of_a_scrape_can_be_parsed_and_says_which_version_runs() -> None:
    body, content_type = metrics_text()
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    assert content_type.startswith("text/plain; version=")
    [build] = families["bindu_build_info"].samples
    assert re.match(r"\d+\.\d+", build.labels["version"])


def test_a_span_names_the_prompt_that_was_served(spans: InMemorySpanExporter) -> None:
    with _tracing.get_tracer("test").start_as_current_span("chat"):
        counted_exposure(SERVED)
    [span] = spans.get_finished_spans()
    assert dict(span.attributes or {}) == {"gen_ai.prompt.name": "support", "gen_ai.prompt.version": "7"}


def test_a_default_text_is_named_on_no_span(spans: InMemorySpanExporter) -> None:
    with _tracing.get_tracer("test").start_as_current_span("chat"):
        counted_exposure(SERVED | {"id": None})
    [span] = spans.get_finished_spans()
    assert not span.attributes


@pytest.mark.parametrize(("score", "label"), [(1.0, "pass"), (0.5, "pass"), (0.4, "fail"), (0.0, "fail")])
def test_a_vote_is_an_evaluation_of_the_answer(events: InMemoryLogRecordExporter, score: float, label: str) -> None:
    feedback_event("support", "rating", score, task_id="t1", response_id="resp-1")
    [event] = events.get_finished_logs()
    assert event.log_record.event_name == "gen_ai.evaluation.result"
    assert dict(event.log_record.attributes or {}) == {
        "gen_ai.evaluation.name": "rating",
        "gen_ai.evaluation.score.value": score,
        "gen_ai.evaluation.score.label": label,
        "gen_ai.response.id": "resp-1",
        "gen_ai.prompt.name": "support",
        "bindu.task.id": "t1",
    }


def test_an_event_belongs_to_the_callers_span_and_holds_only_what_is_known(events: InMemoryLogRecordExporter) -> None:
    with _tracing.get_tracer("test").start_as_current_span("vote") as span:
        feedback_event("support", "thumbs_up", 1.0)
    [event] = events.get_finished_logs()
    assert event.log_record.trace_id == span.get_span_context().trace_id
    assert set(event.log_record.attributes or {}) == {
        "gen_ai.evaluation.name",
        "gen_ai.evaluation.score.value",
        "gen_ai.evaluation.score.label",
        "gen_ai.prompt.name",
    }


def without(*modules: str) -> Any:
    """What a process without these modules says of every public function."""
    code = f"""
import asyncio, sys
sys.modules.update(dict.fromkeys({modules!r}))
from bindu.dspy import telemetry
telemetry.counted_exposure({SERVED!r})
telemetry.counted_feedback("support", "rating")
telemetry.counted_request("/v1/select", "POST", 200, 0.1)
telemetry.feedback_event("support", "rating", 0.4, task_id="t1")
telemetry.show_spool(telemetry.SpoolFigures)
print(b"bindu_exposures_total" in telemetry.metrics_text()[0], "opentelemetry.trace" in sys.modules)
"""
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        (("prometheus_client", "opentelemetry"), "False False"),
        (("prometheus_client",), "False True"),
        (("opentelemetry",), "True False"),
        (("opentelemetry._logs",), "True False"),
        ((), "True True"),
    ],
)
def test_without_a_library_its_functions_do_nothing(missing: tuple[str, ...], says: str) -> None:
    done = without(*missing)
    assert (done.stderr, done.stdout.strip()) == ("", says)


def test_the_reference_lists_every_metric_with_its_labels() -> None:
    text = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
    rows = {
        name: set(re.findall(r"`(\w+)`", labels)) for name, labels in re.findall(r"^\| `(\w+)` \|([^|]*)\|", text, re.M)
    }
    assert rows == exported()


def exported() -> dict[str, set[str]]:
    """Every metric of ours, as it is written in a query, with its labels."""
    from bindu.dspy.telemetry import prometheus

    counters = {
        f"{metric._name}_total": set(metric._labelnames)
        for metric in (prometheus.EXPOSURES, prometheus.FEEDBACK, prometheus.FAILURES)
    }
    gauges = {name: set(labels) for name, (_, labels) in prometheus.GAUGES.items()}
    return {
        **counters,
        **gauges,
        f"{prometheus.DROPPED[0]}_total": set(prometheus.DROPPED[2]),
        prometheus.REQUESTS._name: set(prometheus.REQUESTS._labelnames),
        "bindu_build_info": {"version"},
    }


def test_no_metric_of_ours_is_left_out_of_what_this_file_knows() -> None:
    written = {family.name for family in REGISTRY.collect() if family.name.startswith("bindu_")}
    known = {name.removesuffix("_total").removesuffix("_info") for name in exported()}
    assert {name.removesuffix("_info") for name in written} == known
    assert set(telemetry.__all__) <= set(dir(telemetry))
