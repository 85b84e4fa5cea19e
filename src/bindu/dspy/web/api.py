"""The JSON API: what agents in other processes and other languages ask for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from bindu.dspy.collector import (
    Exchange,
    Opinion,
    read_exchange,
    read_feedback,
    store_exchanges,
    store_feedback,
)
from bindu.dspy.dataset import build_dataset
from bindu.dspy.errors import BinduError, NoActivePromptError, UnknownTaskError
from bindu.dspy.feedback import VOTES
from bindu.dspy.insights import prompt_reports
from bindu.dspy.prompt_selector import select_prompt_with_canary
from bindu.dspy.prompts import bootstrap_prompt
from bindu.dspy.recorder import Recorder
from bindu.dspy.storage import get_storage
from bindu.dspy.telemetry import counted_exposure
from bindu.dspy.web.batching import Batcher
from bindu.dspy.web.operations import Asked, Operation
from bindu.dspy.web.problems import Problem
from bindu.dspy.web.shapes import (
    DecisionsIn,
    DecisionsOut,
    ExperimentsOut,
    FeedbackIn,
    FeedbackOut,
    FindFeedbackIn,
    NewestIn,
    PreviewIn,
    PreviewOut,
    PromptsOut,
    RunsOut,
    SelectIn,
    SelectOut,
    TaskIn,
    TasksOut,
    TokenIn,
    TokenOut,
    WhoseIn,
)
from bindu.dspy.web.tokens import Grant, feedback_token
from bindu.dspy.web.votes import not_yet, store_vote
from bindu.settings import ServerSettings

__all__ = ["Api"]

_SAID = (*VOTES, "comment", "correction")


class Api:
    """The operations of one process, and what they share."""

    def __init__(self, settings: ServerSettings, recorder: Recorder) -> None:
        self._settings = settings
        self._recorder = recorder
        self._tasks: Batcher[Exchange, UUID] = Batcher(_store_tasks)
        self._votes: Batcher[Opinion, UUID | None] = Batcher(store_feedback)

    @property
    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                method="POST",
                path="/v1/select",
                summary="Choose the prompt that answers a request.",
                handler=self.select,
                takes=SelectIn,
                gives=SelectOut,
                scope="select",
                refusals=(404,),
            ),
            *self._writings(),
            *self._readings(),
        )

    def _writings(self) -> tuple[Operation, ...]:
        write = partial(Operation, method="POST", scope="write", status=201)
        return (
            write(
                path="/v1/tasks",
                summary="Record an exchange, or a list of them, all or none; durable when it is answered.",
                handler=self.tasks,
                takes=TaskIn | list[TaskIn],
                gives=TasksOut,
                refusals=(404,),
            ),
            write(
                path="/v1/tasks/{id}/feedback",
                summary="Record what a user thought of an answer; durable when it is answered.",
                handler=self.task_feedback,
                takes=FeedbackIn,
                gives=FeedbackOut,
                refusals=(404,),
            ),
            write(
                path="/v1/feedback",
                summary="The same, by the task's, the response's or the conversation's id, or with a feedback token.",
                handler=self.feedback,
                takes=FindFeedbackIn,
                gives=FeedbackOut,
                refusals=(404,),
                by_token=True,
            ),
            write(
                path="/v1/tokens",
                summary="Sign a token with which a browser may rate one answer.",
                handler=self.token,
                takes=TokenIn,
                gives=TokenOut,
            ),
        )

    def _readings(self) -> tuple[Operation, ...]:
        read = partial(Operation, method="GET", scope="view")
        listed = (
            ("prompts", "All versions, with what users thought of them.", self.prompts, WhoseIn, PromptsOut),
            ("experiments", "The experiments, newest first.", self.experiments, NewestIn, ExperimentsOut),
            ("decisions", "The decision log, newest first.", self.decisions, DecisionsIn, DecisionsOut),
            ("runs", "The training runs, newest first.", self.runs, NewestIn, RunsOut),
            ("dataset/preview", "What training would learn from, with examples.", self.preview, PreviewIn, PreviewOut),
        )
        return tuple(
            read(path=f"/v1/{name}", summary=summary, handler=handler, takes=takes, gives=gives)
            for name, summary, handler, takes, gives in listed
        )

    async def select(self, asked: Asked) -> dict[str, Any]:
        body: SelectIn = asked.body
        agent = await asked.allowed("select", body.agent)
        prompt = await select_prompt_with_canary(unit_id=body.unit_id, agent_id=agent, default=body.default)
        if prompt is None:
            raise NoActivePromptError(agent)
        if prompt["id"] is None and await asked.may("write", agent):
            prompt |= await _first_prompt(agent, prompt["prompt_text"])
        counted_exposure(prompt)
        return {"prompt": prompt}

    async def tasks(self, asked: Asked) -> TasksOut:
        body: TaskIn | list[TaskIn] = asked.body
        if isinstance(body, TaskIn):
            agent = await asked.allowed("write", _agent_of(body))
            exchange = _exchange(body, agent)
            stored = await self._tasks.add(agent, exchange)
            return TasksOut([stored], stored)
        agent = await asked.allowed("write", self._one_agent(body))
        return TasksOut(await store_exchanges([_exchange(task, agent) for task in body]))

    async def task_feedback(self, asked: Asked) -> FeedbackOut:
        agent = await asked.allowed("write", asked.body.agent)
        return await self._rate(agent, asked.request.path_params["id"], asked.body)

    async def feedback(self, asked: Asked) -> FeedbackOut:
        body: FindFeedbackIn = asked.body
        grant = asked.grant
        if grant is not None:
            _check_claims(body, grant)
            return await self._rate(grant.agent_id, grant.task_id, body, rater_id=grant.rater_id or "")
        agent = await asked.allowed("write", body.agent)
        return await self._rate(agent, await self._task_of(agent, body), body)

    async def token(self, asked: Asked) -> TokenOut:
        body: TokenIn = asked.body
        agent = await asked.allowed("write", body.agent)
        text, grant = await feedback_token(body.task_id, rater_id=body.rater_id, hours=body.hours, agent_id=agent)
        return TokenOut(text, grant.expires_at)

    async def prompts(self, asked: Asked) -> PromptsOut:
        agent = await asked.allowed("view", asked.body.agent)
        return PromptsOut(await prompt_reports(agent))

    async def experiments(self, asked: Asked) -> ExperimentsOut:
        agent = await asked.allowed("view", asked.body.agent)
        return ExperimentsOut(await (await get_storage()).experiments(agent, limit=asked.body.limit))

    async def decisions(self, asked: Asked) -> DecisionsOut:
        body: DecisionsIn = asked.body
        agent = await asked.allowed("view", body.agent)
        storage = await get_storage()
        return DecisionsOut(await storage.decisions(agent, experiment_id=body.experiment_id or None, limit=body.limit))

    async def runs(self, asked: Asked) -> RunsOut:
        agent = await asked.allowed("view", asked.body.agent)
        return RunsOut(await (await get_storage()).runs(agent, limit=asked.body.limit))

    async def preview(self, asked: Asked) -> PreviewOut:
        body: PreviewIn = asked.body
        agent = await asked.allowed("view", body.agent)
        found = await build_dataset(body.limit, body.strategy, body.require_feedback, agent_id=agent)
        return PreviewOut.of(found, body.samples)

    async def _rate(self, agent: str, task_id: str | int, body: FeedbackIn, rater_id: str | None = None) -> FeedbackOut:
        given = msgspec.to_builtins(body)
        opinion = read_feedback(
            task_id,
            {name: given[name] for name in _SAID if name in given},
            rater_id=body.rater_id if rater_id is None else rater_id,
            idempotency_key=body.idempotency_key,
        )
        named = body.response_id if isinstance(body, FindFeedbackIn) else None
        response_id = None if named is None else str(named)
        return FeedbackOut(await store_vote(self._votes.add, agent, opinion, self._recorder, response_id))

    async def _task_of(self, agent: str, body: FindFeedbackIn) -> str | int:
        named = [name for name in (body.task_id, body.response_id, body.conversation_id) if name is not None]
        if len(named) != 1:
            raise Problem(
                422, "invalid_request", "Say what the feedback is on: one of task_id, response_id, conversation_id."
            )
        if body.conversation_id is None:
            return named[0]
        await self._recorder.flush()
        if self._recorder.is_behind:  # an earlier answer must not get what the last one earned
            raise not_yet(body.conversation_id)
        found = await (await get_storage()).latest_task(agent, str(body.conversation_id))
        if found is None:
            raise UnknownTaskError(agent, body.conversation_id)
        return str(found)

    def _one_agent(self, tasks: Sequence[TaskIn]) -> str | None:
        if not 1 <= len(tasks) <= self._settings.max_batch:
            raise Problem(422, "invalid_request", f"A batch has 1 to {self._settings.max_batch:,} tasks.")
        agents = {_agent_of(task) for task in tasks}
        if len(agents) > 1:
            raise Problem(422, "invalid_request", "The tasks of a batch belong to one agent. Send one batch for each.")
        return agents.pop()


async def _first_prompt(agent_id: str, default: str) -> dict[str, Any]:
    """Store what an agent brings to its first start; what cannot be stored is served all the same."""
    try:
        first = await bootstrap_prompt(default, agent_id=agent_id)
    except BinduError:
        return {}
    return {"id": first["id"], "prompt_text": first["prompt_text"]}


async def _store_tasks(_agent_id: str, exchanges: Sequence[Exchange]) -> list[UUID]:
    return await store_exchanges(exchanges)


def _agent_of(task: TaskIn) -> str | None:
    served = None if task.prompt is None else task.prompt.get("agent_id")
    return task.agent or (served if isinstance(served, str) else None)


def _exchange(task: TaskIn, agent: str) -> Exchange:
    return read_exchange(
        task.history,
        prompt=task.prompt,
        prompt_id=task.prompt_id,
        task_id=task.task_id,
        unit_id=task.unit_id,
        context_id=task.context_id,
        state=task.state,
        usage=task.usage,
        latency_ms=task.latency_ms,
        agent_id=agent,
    )


def _check_claims(body: FindFeedbackIn, grant: Grant) -> None:
    """A token says for whom and on what; a body that says otherwise is a mistake or worse."""
    named = {body.task_id, body.response_id} - {None}
    if {*map(str, named)} - {grant.task_id} or body.conversation_id is not None:
        raise Problem(403, "foreign_task", "The feedback token is for another answer than the one named.")
    if body.rater_id is not None and str(body.rater_id) != grant.rater_id:
        raise Problem(403, "foreign_rater", "The feedback token is another person's than the one named.")
    if body.agent is not None and body.agent != grant.agent_id:
        raise Problem(403, "foreign_agent", "The feedback token is for another agent than the one named.")
