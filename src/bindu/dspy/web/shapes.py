"""What requests hold and what answers hold: decoded strictly, and shown in the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from bindu.dspy.collector import SAYS
from bindu.dspy.models import Dataset, Decision, Experiment, JsonObject, PromptStatus, TaskState, TrainingRun
from bindu.dspy.reports import PromptReport

__all__ = [
    "DecisionsIn",
    "DecisionsOut",
    "ExperimentsOut",
    "FeedbackIn",
    "FeedbackOut",
    "FindFeedbackIn",
    "NewestIn",
    "PreviewIn",
    "PreviewOut",
    "PromptsOut",
    "RunsOut",
    "SelectIn",
    "SelectOut",
    "ServedPrompt",
    "TaskIn",
    "TasksOut",
    "TokenIn",
    "TokenOut",
    "WhoseIn",
]

Agent = Annotated[str, Meta(min_length=1, max_length=200, description="Whose prompt; default the server's.")]
Id = Annotated[str, Meta(min_length=1, max_length=500)] | int
Word = Annotated[str, Meta(max_length=100)]
Text = Annotated[str, Meta(max_length=100_000)]
Limit = Annotated[int, Meta(ge=0, le=1_000)]
Number = Annotated[int, Meta(ge=1, le=2**31 - 1)]


_TALK = [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "On its way."}]
_MESSAGE = {
    "required": ["role"],
    "properties": {"role": {"type": "string", "minLength": 1}},
    "anyOf": [{"required": [name], "properties": {name: {"type": ["string", "array"]}}} for name in SAYS],
}
Message = Annotated[JsonObject, Meta(extra_json_schema=_MESSAGE)]  # what else there is of it is kept


class SelectIn(Struct, forbid_unknown_fields=True):
    """Which prompt is asked for."""

    agent: Agent | None = None
    unit_id: Id | None = None  # a conversation or user, which keeps its arm
    default: Text | None = None  # what to serve while no prompt is stored


class ServedPrompt(Struct):
    """What answers a request; send it back with the task."""

    id: int | None
    prompt_text: str
    status: PromptStatus
    traffic: float
    num_interactions: int
    average_feedback_score: float | None
    agent_id: str
    arm: str
    epoch: int
    experiment_id: int | None
    unit_id: str | None


class SelectOut(Struct):
    """The chosen prompt."""

    prompt: ServedPrompt


class TaskIn(Struct, forbid_unknown_fields=True):
    """One exchange, and the prompt that answered it; without one it is the active prompt."""

    history: Annotated[list[Message], Meta(min_length=1, examples=[_TALK])]
    prompt: JsonObject | None = None  # as select returned it
    prompt_id: Number | None = None
    task_id: Id | None = None  # yours, such as the answer's id: recording it again changes nothing
    unit_id: Id | None = None
    context_id: Id | None = None  # the conversation
    state: TaskState = "completed"
    usage: JsonObject | None = None
    latency_ms: Annotated[float, Meta(ge=0, le=1e12)] | None = None
    agent: Agent | None = None


class TasksOut(Struct, omit_defaults=True):
    """The ids of stored tasks, in order, for their feedback; ``id`` when one was sent and not a list."""

    ids: list[UUID]
    id: UUID | None = None


class FeedbackIn(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A vote of any shape, words, or both; of several votes the first counts, in the order given here."""

    rating: Annotated[float | Word | None, Meta(examples=[4])] = None  # 1 to 5
    thumbs_up: bool | int | Word | None = None
    score: float | Word | None = None  # 0 to 1
    label: Word | None = None  # good or bad, and other such words
    comment: Annotated[str, Meta(max_length=10_000)] | None = None
    correction: Annotated[str, Meta(max_length=10_000)] | None = None  # what the answer should have been
    rater_id: Id | None = None  # who has one vote per task, the latest
    idempotency_key: Id | None = None
    agent: Agent | None = None


class FindFeedbackIn(FeedbackIn, forbid_unknown_fields=True, omit_defaults=True):
    """Feedback that says what it is on: one of the ids. With a feedback token none is needed."""

    task_id: Id | None = None  # ours or yours
    response_id: Id | None = None  # of an answer that went through the proxy
    conversation_id: Id | None = None  # its last answer


class FeedbackOut(Struct):
    """The id of a stored vote; it was stored before this was said."""

    id: UUID


class TokenIn(Struct, forbid_unknown_fields=True):
    """For whom and for which answer a browser's token is."""

    task_id: Id
    rater_id: Id | None = None
    hours: Annotated[float, Meta(gt=0, le=8766)] | None = None
    agent: Agent | None = None


class TokenOut(Struct):
    """A token, and until when it is good, in seconds since 1970."""

    token: str
    expires_at: int


class WhoseIn(Struct, forbid_unknown_fields=True):
    """Of whom. Left out and not None in a query, where ``null`` is a name like any other."""

    agent: Agent | UnsetType = UNSET


class NewestIn(WhoseIn, forbid_unknown_fields=True):
    """How many of the newest ones."""

    limit: Limit = 100


class DecisionsIn(NewestIn, forbid_unknown_fields=True):
    """Of all experiments, or of one."""

    experiment_id: Number | UnsetType = UNSET


class PreviewIn(WhoseIn, forbid_unknown_fields=True):
    """Which dataset is asked for."""

    strategy: Annotated[str, Meta(max_length=200)] = "last_turn"
    require_feedback: bool = False
    limit: Annotated[int, Meta(ge=1, le=2_000)] = 1_000  # tasks to read, the newest
    samples: Annotated[int, Meta(ge=0, le=20)] = 3


class PromptsOut(Struct):
    """All versions, oldest first."""

    prompts: list[PromptReport]


class ExperimentsOut(Struct):
    """Newest first."""

    experiments: list[Experiment]


class DecisionsOut(Struct):
    """Newest first."""

    decisions: list[Decision]


class RunsOut(Struct):
    """Newest first."""

    runs: list[TrainingRun]


class PreviewOut(Struct):
    """What training would learn from, with some samples."""

    funnel: dict[str, Any]
    golden: list[Any]
    failures: list[Any]

    @classmethod
    def of(cls, found: Dataset, samples: int) -> PreviewOut:
        return cls(msgspec.to_builtins(found.funnel), found.golden[:samples], found.failures[:samples])
