"""An OpenFeature provider: an agent's prompt is a string flag of its name, and feedback is tracked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import TypeMismatchError
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.provider import AbstractProvider, Metadata
from openfeature.track import TrackingEventDetails

from bindu.dspy.arguments import is_storable
from bindu.dspy.collector import read_feedback
from bindu.dspy.errors import BinduError, InvalidArgumentError
from bindu.dspy.integrations.background import background, flush
from bindu.dspy.integrations.handle import PromptHandle, prompt_handle
from bindu.dspy.integrations.recorded import recorded, recorded_async
from bindu.dspy.integrations.turn import current_turn, last_tasks
from bindu.dspy.storage import agent_named
from bindu.utils.logging import get_logger

__all__ = ["FEEDBACK_EVENT", "PromptProvider", "recorded", "recorded_async"]

FEEDBACK_EVENT: Final = "feedback"
SHUTDOWN_SECONDS: Final = 10.0
_NOT_FEEDBACK: Final = ("task_id", "flag_key")

logger = get_logger("bindu.dspy.integrations")


class PromptProvider(AbstractProvider):
    """``client.get_string_value("support", "You are ...", EvaluationContext(targeting_key=conversation))``.

    The flag's key is the agent, the targeting key the unit that keeps its prompt, the variant the prompt's number; the
    default becomes version 1 of an agent without a prompt. ``client.track("feedback", ...)`` stores a vote: its
    attributes are the feedback, ``task_id`` (if left out, the exchange recorded last here) and ``flag_key``, the agent
    (if left out, those that the exchange counts for; of a ``task_id`` DSPY__AGENT_ID).
    """

    def __init__(self) -> None:
        super().__init__()
        self._handles: dict[str, PromptHandle] = {}

    def get_metadata(self) -> Metadata:
        return Metadata(name="bindu-dspy")

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        unit = None if evaluation_context is None else evaluation_context.targeting_key
        handle = self._handles.get(flag_key)
        if handle is None:
            handle = self._handles[flag_key] = prompt_handle(flag_key, default=default_value)
        prompt = handle.select(unit if unit and is_storable(unit) else None)
        if prompt["id"] is None:
            return FlagResolutionDetails(default_value, reason=Reason.DEFAULT)
        shown = ("agent_id", "id", "arm", "epoch", "experiment_id")
        return FlagResolutionDetails(
            prompt["prompt_text"],
            variant=str(prompt["id"]),
            reason=Reason.STATIC if prompt["experiment_id"] is None else Reason.SPLIT,
            flag_metadata={name: prompt[name] for name in shown if prompt[name] is not None},
        )

    def track(
        self,
        tracking_event_name: str,
        evaluation_context: EvaluationContext | None = None,
        tracking_event_details: TrackingEventDetails | None = None,
    ) -> None:
        """Store a vote soon; a ``value`` without a vote among the attributes is a rating from 1 to 5.

        What cannot be stored is logged: tracking must not stop an application.
        """
        if tracking_event_name != FEEDBACK_EVENT:
            return
        details = tracking_event_details or TrackingEventDetails()
        rater = None if evaluation_context is None else evaluation_context.targeting_key
        try:
            self._vote(details.attributes, details.value, rater)
        except BinduError as error:
            logger.warning("A vote was not stored: %s", error)

    def shutdown(self) -> None:
        flush(SHUTDOWN_SECONDS)

    def _vote(self, attributes: Mapping[str, Any], value: float | None, rater: str | None) -> None:
        feedback = {name: given for name, given in attributes.items() if name not in _NOT_FEEDBACK}
        if value is not None:
            feedback = {"rating": value} | feedback
        turn, task, agent = current_turn(), attributes.get("task_id"), attributes.get("flag_key")
        if task is not None:
            tasks = {agent_named(agent): task}
        else:
            known = turn.tasks if turn is not None and turn.tasks else last_tasks()
            tasks = {name: id_ for name, id_ in known.items() if agent in (None, name)}
        if not tasks:
            whose = "" if agent is None else f" for '{agent}'"
            raise InvalidArgumentError(f"track() was given no task_id, and nothing was recorded here{whose} before.")
        background().vote({name: read_feedback(id_, feedback, rater_id=rater) for name, id_ in tasks.items()})

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        _no_prompt(flag_key)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        _no_prompt(flag_key)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        _no_prompt(flag_key)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        _no_prompt(flag_key)


def _no_prompt(flag_key: str) -> NoReturn:
    raise TypeMismatchError(f"'{flag_key}' is a prompt, which is a string: ask for it with get_string_value.")
