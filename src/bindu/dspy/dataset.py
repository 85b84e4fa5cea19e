"""Stored tasks become the golden dataset, stage by stage; every stage streams and counts what it drops.

fetch -> normalise feedback -> extract by strategy -> filter by quality -> validate -> deduplicate
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING

from bindu.dspy.arguments import check_limit, shown
from bindu.dspy.errors import InvalidArgumentError
from bindu.dspy.extractor import InteractionExtractor
from bindu.dspy.feedback import normalize_feedback
from bindu.dspy.models import FAILED_BELOW, Dataset, Funnel, Interaction, RawTask, TaskQuery
from bindu.dspy.storage import agent_named, get_storage
from bindu.dspy.strategies import BaseExtractionStrategy, LastTurnStrategy, parse_strategy
from bindu.settings import app_settings

if TYPE_CHECKING:
    import dspy

__all__ = [
    "assemble",
    "build_dataset",
    "build_golden_dataset",
    "convert_to_dspy_examples",
    "deduplicate",
    "extract_interactions",
    "fetch_raw_task_data",
    "filter_by_quality",
    "normalize_feedback",
    "validate",
]

_ROUNDING = 1e-9  # the database's mean of seven votes of .8 is a little less; our stage decides exactly


async def build_golden_dataset(
    limit: int | None = None,
    strategy: BaseExtractionStrategy | str | None = None,
    require_feedback: bool = True,
    min_feedback_threshold: float = 0.0,
    *,
    agent_id: str | None = None,
) -> list[Interaction]:
    """The examples worth learning from, newest task first. Parameters and errors as for ``build_dataset``."""
    dataset = await build_dataset(limit, strategy, require_feedback, min_feedback_threshold, agent_id=agent_id)
    return dataset.golden


async def build_dataset(
    limit: int | None = None,
    strategy: BaseExtractionStrategy | str | None = None,
    require_feedback: bool = True,
    min_feedback_threshold: float = 0.0,
    *,
    agent_id: str | None = None,
) -> Dataset:
    """Golden examples, failures, and the account of every task of the agent, newest task first.

    Golden examples score at or above the threshold (those without feedback are golden unless it is required);
    failures score below .5 whatever the threshold, so an example can be both. ``limit`` counts tasks, the newest
    that pass; None means ``app_settings.dspy.max_interactions_query_limit``. The strategy is LastTurnStrategy by
    default and may be a specification such as ``last_n:3``. Raises InvalidArgumentError for a limit or threshold that
    cannot be, UnknownStrategyError, and what ``get_storage`` raises.
    """
    strategy = parse_strategy(strategy) if isinstance(strategy, str) else strategy or LastTurnStrategy()
    query = _query(limit, agent_id, require_feedback, min_feedback_threshold, with_earlier=strategy.multi_turn)
    storage, funnel = await get_storage(), Funnel()
    for reason, count in (await storage.count_tasks(query)).items():
        if reason != "tasks":  # counted as they are read: between two statements there may come more
            funnel.tasks += count
            funnel.drop(reason, count)
    return await assemble(
        storage.read_tasks(query),
        strategy,
        require_feedback=require_feedback,
        min_feedback_threshold=min_feedback_threshold,
        funnel=funnel,
    )


async def assemble(
    tasks: AsyncIterable[RawTask],
    strategy: BaseExtractionStrategy,
    *,
    require_feedback: bool = True,
    min_feedback_threshold: float = 0.0,
    funnel: Funnel | None = None,
) -> Dataset:
    """Run all stages after fetching. For a strategy that cuts one example per task, the funnel adds up:

    tasks = golden + failures that are not golden + all drops
    """
    funnel = Funnel() if funnel is None else funnel
    found = extract_interactions(tasks, strategy, funnel=funnel)
    good = filter_by_quality(
        found, require_feedback=require_feedback, min_feedback_threshold=min_feedback_threshold, funnel=funnel
    )
    dataset = Dataset([], [], funnel)
    async for example in deduplicate(validate(good, funnel=funnel), funnel=funnel):
        if _is_golden(example.feedback_score, require_feedback, min_feedback_threshold):
            dataset.golden.append(example)
        if _is_failure(example.feedback_score):
            dataset.failures.append(example)
    funnel.golden, funnel.failures = len(dataset.golden), len(dataset.failures)
    return dataset


async def fetch_raw_task_data(
    limit: int | None = None,
    *,
    agent_id: str | None = None,
    require_feedback: bool = False,
    min_feedback_threshold: float = 0.0,
    with_earlier: bool = False,
) -> AsyncIterator[RawTask]:
    """Stream the newest ``limit`` completed tasks with each rater's latest vote; failures pass any threshold.

    ``with_earlier`` adds the histories of the same context's earlier tasks.
    """
    query = _query(limit, agent_id, require_feedback, min_feedback_threshold, with_earlier=with_earlier)
    async for task in (await get_storage()).read_tasks(query):
        yield task


async def extract_interactions(
    tasks: AsyncIterable[RawTask],
    strategy: BaseExtractionStrategy | None = None,
    *,
    funnel: Funnel | None = None,
) -> AsyncIterator[Interaction]:
    """Normalise each task's feedback to one score and cut the examples that it is about.

    Drops tasks with ``no_turn``, and examples that end with an ``earlier_answer``: another task's score is theirs.
    """
    funnel = Funnel() if funnel is None else funnel
    extractor = InteractionExtractor(strategy)
    async for task in tasks:
        funnel.tasks += 1
        for interaction in extractor.extract_task(task, funnel=funnel):
            yield interaction


async def filter_by_quality(
    interactions: AsyncIterable[Interaction],
    *,
    require_feedback: bool = True,
    min_feedback_threshold: float = 0.0,
    funnel: Funnel | None = None,
) -> AsyncIterator[Interaction]:
    """Keep golden examples and failures; drop what is ``without_feedback`` or ``below_threshold``."""
    funnel = Funnel() if funnel is None else funnel
    async for one in interactions:
        score = one.feedback_score
        if _is_golden(score, require_feedback, min_feedback_threshold) or _is_failure(score):
            yield one
        else:
            funnel.drop("without_feedback" if score is None else "below_threshold")


async def validate(
    interactions: AsyncIterable[Interaction], *, funnel: Funnel | None = None
) -> AsyncIterator[Interaction]:
    """Drop examples whose input or output says nothing (``empty``): custom strategies may cut anything."""
    funnel = Funnel() if funnel is None else funnel
    async for one in interactions:
        if one.user_input.strip() and one.agent_output.strip():
            yield one
        else:
            funnel.drop("empty")


async def deduplicate(
    interactions: AsyncIterable[Interaction], *, funnel: Funnel | None = None
) -> AsyncIterator[Interaction]:
    """Keep the first, which is the newest, of examples with the same texts; remembers 16 bytes of each.

    Near-duplicates stay: how often people ask a thing is worth knowing, and small differences can matter.
    """
    funnel = Funnel() if funnel is None else funnel
    seen: set[bytes] = set()
    async for one in interactions:
        digest = _digest(one)
        if digest in seen:
            funnel.drop("duplicate")
            continue
        seen.add(digest)
        yield one


def convert_to_dspy_examples(interactions: Iterable[Interaction]) -> list[dspy.Example]:
    """DSPy examples with ``input`` (the only input) and ``output``.

    They also carry ``interaction`` (the task's id, with ``#window`` where there are several), ``feedback_score``,
    ``feedback_type``, ``comments``, ``correction`` and ``context_id``.
    """
    import dspy  # noqa: PLC0415 - seconds and 100 MB that only training needs

    return [
        dspy.Example(
            input=one.user_input,
            output=one.agent_output,
            interaction=str(one.id) if one.window is None else f"{one.id}#{one.window}",
            feedback_score=one.feedback_score,
            feedback_type=one.feedback_type,
            comments=one.comments,
            correction=one.correction,
            context_id=one.context_id,
        ).with_inputs("input")
        for one in interactions
    ]


def _query(
    limit: int | None, agent_id: str | None, require_feedback: bool, threshold: float, *, with_earlier: bool
) -> TaskQuery:
    if limit is not None:
        check_limit(limit, least=1)
    if not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise InvalidArgumentError(f"min_feedback_threshold is {shown(threshold)}; scores lie between 0 and 1.")
    return TaskQuery(
        agent_id=agent_named(agent_id),
        limit=app_settings.dspy.max_interactions_query_limit if limit is None else limit,
        require_feedback=require_feedback,
        min_score=max(0.0, threshold - _ROUNDING),
        with_earlier=with_earlier,
    )


def _is_golden(score: float | None, require_feedback: bool, threshold: float) -> bool:
    return not require_feedback if score is None else score >= threshold


def _is_failure(score: float | None) -> bool:
    return score is not None and score < FAILED_BELOW


def _digest(one: Interaction) -> bytes:
    digest = blake2b(digest_size=16)
    for text in (one.system_prompt or "", one.user_input, one.agent_output):
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8))
        digest.update(data)
    return digest.digest()
