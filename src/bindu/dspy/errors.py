"""Every error raised on purpose. Each is also the built-in that the specification promises.

BinduError
├── StorageNotConfiguredError   RuntimeError     no STORAGE__POSTGRES_URL
├── StorageUnavailableError     ConnectionError  the database does not answer
├── SourceUnavailableError      ConnectionError  the Bindu database to import from cannot be read
├── SchemaError                 RuntimeError     the database's schema is not the one this code speaks
├── NoActivePromptError         ValueError       nothing to serve, nothing to improve
├── UnknownPromptError          ValueError       no prompt of that number
├── UnknownRunError             LookupError      no training run of that id
├── AmbiguousRunError           LookupError      the beginning of several training runs' ids
├── UnknownKeyError             LookupError      no API key of that id
├── UnknownTaskError            LookupError      feedback for a task nobody recorded
├── InvalidPromptError          ValueError       a text or a share that cannot be served
├── BarredTextError             ValueError       a text that was on trial before and did not win
├── InvalidArgumentError        ValueError       a time without a zone, an id that cannot be stored
├── InvalidFeedbackError        ValueError       a vote of no known shape or out of range
├── InvalidHistoryError         ValueError       a conversation that is not a list of messages
├── UnknownStrategyError        ValueError       no extraction strategy of that name
├── UnknownRuleError            ValueError       an experiment decided by a rule this version lacks
├── UnsupportedOptimizerError   ValueError       the optimizer cannot rewrite instructions
├── ExperimentActiveError       RuntimeError     a candidate is still on trial
├── RunActiveError              RuntimeError     a training run is still at work
├── NoExperimentError           LookupError      no candidate is on trial
├── UnknownDecisionError        LookupError      no decision of that number
├── StaleRolloutError           RuntimeError     somebody moved traffic since the decision was taken
├── TrainingRefusedError        ValueError       too little to learn from, or no proof
├── ModelUnavailableError       ConnectionError  the model does not answer
├── BudgetExceededError         RuntimeError     the run reached its limit of calls, money or minutes
├── RunCancelledError           RuntimeError     a person stopped the run
└── ImportRefusedError          ValueError       a file of logs that cannot be read
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

__all__ = [
    "HOW_ENDED",
    "AmbiguousRunError",
    "BarredTextError",
    "BinduError",
    "BudgetExceededError",
    "ExperimentActiveError",
    "ImportRefusedError",
    "InvalidArgumentError",
    "InvalidFeedbackError",
    "InvalidHistoryError",
    "InvalidPromptError",
    "ModelUnavailableError",
    "NoActivePromptError",
    "NoExperimentError",
    "RunActiveError",
    "RunCancelledError",
    "SchemaError",
    "SourceUnavailableError",
    "StaleRolloutError",
    "StorageNotConfiguredError",
    "StorageUnavailableError",
    "TrainingRefusedError",
    "UnknownDecisionError",
    "UnknownKeyError",
    "UnknownPromptError",
    "UnknownRuleError",
    "UnknownRunError",
    "UnknownStrategyError",
    "UnknownTaskError",
    "UnsupportedOptimizerError",
]

HOW_ENDED: Final = {
    "promoted": "was promoted",
    "rolled_back": "was rolled back",
    "inconclusive": "ended undecided",  # by a timeout, a person's word, or units that were not assigned by the shares
}


class BinduError(Exception):
    """The root: catch it to catch everything we raise on purpose."""


class StorageNotConfiguredError(BinduError, RuntimeError):
    """No database was named."""

    def __init__(self) -> None:
        super().__init__(
            "STORAGE__POSTGRES_URL is not set. Set it to postgresql://user:password@host/database, "
            "or to 'embedded:' for a PostgreSQL of our own under .bindu/."
        )


class StorageUnavailableError(BinduError, ConnectionError):
    """The database was named but does not answer."""

    def __init__(self, where: str, cause: str) -> None:
        ours = where.startswith("embedded:")
        check = "that its folder can be written to" if ours else "that the server runs"
        super().__init__(f"PostgreSQL at {where} cannot be used: {cause}. Check STORAGE__POSTGRES_URL and {check}.")
        self.where = where
        self.cause = cause


class SourceUnavailableError(BinduError, ConnectionError):
    """The Bindu database to import from does not answer, or may not be read."""

    def __init__(self, where: str, cause: str) -> None:
        super().__init__(f"The Bindu database at {where} cannot be read: {cause}. Check its URL and your rights.")
        self.where = where
        self.cause = cause


class SchemaError(BinduError, RuntimeError):
    """The database's schema is older or newer than this code, or was changed by hand."""


class NoActivePromptError(BinduError, ValueError):
    """The agent has no prompt yet."""

    def __init__(self, agent_id: str) -> None:
        super().__init__(
            f"Agent '{agent_id}' has no active prompt. "
            "Call bootstrap_prompt(text) at start-up or run 'bindu prompt add' once."
        )
        self.agent_id = agent_id


class UnknownPromptError(BinduError, ValueError):
    """A prompt number that this agent never had."""

    def __init__(self, agent_id: str, prompt_id: int) -> None:
        super().__init__(f"Agent '{agent_id}' has no prompt {prompt_id}. 'bindu prompt list' shows the ones there are.")
        self.agent_id = agent_id
        self.prompt_id = prompt_id


class UnknownTaskError(BinduError, LookupError):
    """Feedback for a task that was never recorded for this agent."""

    def __init__(self, agent_id: str, task_id: object) -> None:
        super().__init__(
            f"Agent '{agent_id}' has no task {task_id}. Record the exchange with record_task() before its feedback, "
            "or name the agent that it belongs to."
        )
        self.agent_id = agent_id
        self.task_id = task_id


class InvalidPromptError(BinduError, ValueError):
    """A prompt text, status or share that cannot be."""


class BarredTextError(BinduError, ValueError):
    """A text was on trial before, or one much like it, and did not win."""

    def __init__(self, prompt_id: int, experiment_id: int, outcome: str) -> None:
        how = HOW_ENDED.get(outcome, "did not win")
        super().__init__(
            f"This text was tried before: prompt {prompt_id} is the same or much like it and {how} in experiment "
            f"{experiment_id}. Tried often enough, any prompt wins by chance. To try it all the same, say so: "
            "again=True, or --again."
        )
        self.prompt_id = prompt_id
        self.experiment_id = experiment_id
        self.outcome = outcome


class InvalidArgumentError(BinduError, ValueError):
    """A time, an id, a number or a limit that cannot be."""


class InvalidFeedbackError(BinduError, ValueError):
    """A vote of no known shape, or out of range."""


class InvalidHistoryError(BinduError, ValueError):
    """A conversation that is not a list of messages with a role and a text."""


class UnknownStrategyError(BinduError, ValueError):
    """A strategy specification that names none, or gives it wrong numbers."""


class UnknownRuleError(BinduError, ValueError):
    """An experiment was opened, or a decision taken, by a rule that this version does not have."""

    def __init__(self, rule: str, known: tuple[str, ...]) -> None:
        super().__init__(
            f"No rule is called '{rule}'; this version has {', '.join(known)}. "
            "Upgrade bindu-dspy to the version that opened the experiment."
        )
        self.rule = rule
        self.known = known


class UnsupportedOptimizerError(BinduError, ValueError):
    """The optimizer is not one that rewrites instructions."""


class ExperimentActiveError(BinduError, RuntimeError):
    """Training was asked for while a candidate prompt is still on trial."""

    def __init__(self, candidate_id: int, traffic: float) -> None:
        super().__init__(
            f"Prompt {candidate_id} is still on trial with {traffic:.0%} of traffic. "
            "Run 'bindu canary' until it settles, then train again."
        )
        self.candidate_id = candidate_id
        self.traffic = traffic


class RunActiveError(BinduError, RuntimeError):
    """A person's data was to be erased while a training run, which may have read it, is still at work."""

    def __init__(self, agent_id: str, run_ids: Sequence[UUID]) -> None:
        super().__init__(
            f"Training run {run_ids[0]} of agent '{agent_id}' is still at work and may have read what is to go; "
            f"nothing was erased. Wait for its end, or stop it with 'bindu runs cancel {run_ids[0]}', then try again."
        )
        self.agent_id = agent_id
        self.run_ids = tuple(run_ids)


class StaleRolloutError(BinduError, RuntimeError):
    """Traffic was moved by somebody else after this decision was taken; nothing was changed."""

    def __init__(self, agent_id: str, what: str = "") -> None:
        how = what or f"Somebody else moved the traffic of agent '{agent_id}' in the meantime"
        super().__init__(f"{how}; nothing was changed.")
        self.agent_id = agent_id


class _RunError(BinduError):
    def __init__(self, reason: str, run: Any = None, *, cause: str = "") -> None:
        super().__init__(reason)
        self.run = run  # the TrainingRun that was recorded, if it came that far
        self.cause = cause or self.default_cause  # one word for programs

    default_cause = ""


class TrainingRefusedError(_RunError, ValueError):
    """There is too little to learn from or to prove it on; nothing was deployed."""

    default_cause = "refused"


class ModelUnavailableError(_RunError, ConnectionError):
    """The model does not answer; nothing was deployed."""

    default_cause = "model_dead"


class BudgetExceededError(_RunError, RuntimeError):
    """The run reached its limit; nothing was deployed."""

    default_cause = "budget"


class RunCancelledError(_RunError, RuntimeError):
    """A person asked the run to stop; nothing was deployed."""

    default_cause = "cancelled"

    def __init__(self, reason: str, run: Any = None) -> None:
        super().__init__(f"The run was stopped: {reason}. Nothing was deployed. Run the same command to go on.", run)


class ImportRefusedError(BinduError, ValueError):
    """A file of logs that cannot be read; nothing of it was stored from the named line on."""


class NoExperimentError(BinduError, LookupError):
    """Something was asked of an experiment while no candidate is on trial."""

    def __init__(self, agent_id: str) -> None:
        super().__init__(
            f"No candidate of agent '{agent_id}' is on trial. Begin one with 'bindu train' or 'bindu prompt add'."
        )
        self.agent_id = agent_id


class UnknownDecisionError(BinduError, LookupError):
    """A decision was named that this agent's log does not have."""

    def __init__(self, agent_id: str, decision_id: int) -> None:
        super().__init__(
            f"Agent '{agent_id}' has no decision {decision_id}. 'bindu canary status' lists the newest ones."
        )
        self.agent_id, self.decision_id = agent_id, decision_id


class UnknownKeyError(BinduError, LookupError):
    """An API key was named that was never made for this agent."""

    def __init__(self, agent_id: str, key_id: str) -> None:
        super().__init__(f"Agent '{agent_id}' has no API key '{key_id}'. 'bindu keys list' shows them.")
        self.agent_id, self.key_id = agent_id, key_id


class UnknownRunError(BinduError, LookupError):
    """A training run was named that this agent never had, or the newest was asked for before the first."""

    def __init__(self, agent_id: str, run_id: object = None) -> None:
        super().__init__(
            f"Agent '{agent_id}' has not been trained yet. Begin with 'bindu train'."
            if run_id is None
            else f"Agent '{agent_id}' has no training run '{run_id}'. 'bindu runs list' shows the newest ones."
        )
        self.agent_id, self.run_id = agent_id, run_id


class AmbiguousRunError(BinduError, LookupError):
    """The beginning of an id fits several training runs."""

    def __init__(self, beginning: str, run_ids: Sequence[UUID]) -> None:
        super().__init__(
            f"Several training runs begin with '{beginning}', such as {' and '.join(map(str, run_ids))}. "
            "Give more of the id."
        )
        self.beginning, self.run_ids = beginning, tuple(run_ids)
