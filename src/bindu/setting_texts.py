"""What each setting means, in a few words of Markdown: said once, for commands, files and the reference."""

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["MEANINGS", "meaning_of"]

_LINK: Final = re.compile(r"\[([^\]]*)\]\([^)]*\)")

MEANINGS: Final[Mapping[str, str]] = {
    "STORAGE__POSTGRES_URL": (
        "`postgresql://user:password@host/database`, or `embedded:` or `embedded:PATH` for a PostgreSQL of our own"
    ),
    "STORAGE__POOL_SIZE": "connections per process",
    "STORAGE__CONNECT_TIMEOUT": "seconds",
    "STORAGE__STATEMENT_CACHE_SIZE": "0 behind a pooler that does not track prepared statements",
    "STORAGE__LISTEN": (
        "one more connection per process that serves, by which rollouts arrive at once instead of within half "
        "a second; False behind a pooler in transaction mode"
    ),
    "DSPY__AGENT_ID": "whose prompt, when a call names none",
    "DSPY__DEFAULT_MODEL": "the agent's model: what training answers with",
    "DSPY__API_BASE": "an OpenAI-compatible server; default the provider's own",
    "DSPY__API_KEY": "default the provider's own variable, such as `OPENAI_API_KEY`",
    "DSPY__REFLECTION_MODEL": "writes rules; default the agent's model",
    "DSPY__JUDGE_MODEL": "scores answers; default the agent's model",
    "DSPY__GATE_JUDGE_MODEL": "scores answers for the proof; default the judge's model",
    "DSPY__MIN_FEEDBACK_THRESHOLD": "examples at or above it are golden",
    "DSPY__MAX_INTERACTIONS_QUERY_LIMIT": "the newest tasks that training reads",
    "DSPY__CANARY__RULE": (
        "how traffic moves: `evidence` (tests that stay valid at every look) or `means` (the specification's: "
        "20 interactions, plain means, steps of 10 %); the other `DSPY__CANARY__` settings but "
        "`INITIAL_SHARE` and `SIMILAR_TEXT` belong to `evidence`, whose numbers are frozen in an experiment "
        "when it opens (of `means` only the name is)"
    ),
    "DSPY__CANARY__INITIAL_SHARE": "the candidate's share when an experiment opens",
    "DSPY__CANARY__STEP": "of all traffic, per decision",
    "DSPY__CANARY__GOAL": "`better`, or `not_worse` for prompts that are wanted for something else than their scores",
    "DSPY__CANARY__GAIN": "a candidate that is shown not to be better by this much ends inconclusive",
    "DSPY__CANARY__TOLERANCE": "`not_worse`: the loss that is accepted",
    "DSPY__CANARY__STATED_GAIN": "`not_worse`: what is gained, in words; set it before the goal; a win says it",
    "DSPY__CANARY__HARM_MARGIN": "a loss that is not yet harm",
    "DSPY__CANARY__ALPHA_WIN": "chance that an equal candidate ever wins",
    "DSPY__CANARY__ALPHA_HARM": "chance that an equal candidate is ever rolled back as worse",
    "DSPY__CANARY__ALPHA_FUTILITY": "chance that a candidate better by the gain is ever given up",
    "DSPY__CANARY__ALPHA_AFTER_WIN": "the same as for harm, counted from the win",
    "DSPY__CANARY__WINDOW_FEEDBACK": (
        "votes that a window is expected to hold, by the past week; windows are whole hours"
    ),
    "DSPY__CANARY__MAX_WINDOW_HOURS": "the longest window",
    "DSPY__CANARY__MIN_AGE_HOURS": "no win before",
    "DSPY__CANARY__MAX_AGE_DAYS": (
        "an experiment without a verdict ends inconclusive, unless one and a half times the planned time is longer"
    ),
    "DSPY__CANARY__LONGEST_DAYS": "one and a half times the planned duration is waited for, but not longer than this",
    "DSPY__CANARY__RATER_HOURS": "of a rater's conversations within it one counts",
    "DSPY__CANARY__RAMP_SHARE": "the largest share before a win",
    "DSPY__CANARY__FLOOR_SHARE": "the smallest share that suspicion alone leads to",
    "DSPY__CANARY__RAMP_HOURS": "the least time at a share before it rises",
    "DSPY__CANARY__RAMP_UNITS": "the least number of the candidate's rated conversations at a share before it rises",
    "DSPY__CANARY__HOLD_AT": "e-value of harm from which the share does not rise",
    "DSPY__CANARY__BACK_AT": "e-value of harm from which it falls",
    "DSPY__CANARY__SETTLE_HOURS": "rest after a win before the share rises",
    "DSPY__CANARY__SETTLE_HOLD_AT": "e-value of harm since the win from which the share does not rise",
    "DSPY__CANARY__ALPHA_MISMATCH": "chance of a false alarm that requests were not assigned by the shares",
    "DSPY__CANARY__ALPHA_FEEDBACK_MISMATCH": "chance of a false alarm that the candidate changes who votes",
    "DSPY__CANARY__ALPHA_GUARD": (
        "chance of a false alarm by any guardrail: errors, refusals, slow answers, cost, judge"
    ),
    "DSPY__CANARY__GUARD_MARGIN": "how much worse than the active prompt a guardrail lets the candidate be",
    "DSPY__CANARY__JUDGE_SHARE": (
        "share of the answers that the judge model scores as a guardrail; 0 for none. Whether an experiment "
        "is judged is frozen when it opens, the share can be changed at any time"
    ),
    "DSPY__CANARY__SIMILAR_TEXT": (
        "from this similarity on a text counts as one that was tried before; 1 for the same words only"
    ),
    "DSPY__CANARY__CHAMPION_PROMOTIONS": (
        "promotions after which the active prompt has to face the pinned champion; 0 switches it off"
    ),
    "DSPY__CANARY__CHAMPION_DAYS": "days after which it has to, if there was any promotion",
    "DSPY__TRAINING__MIN_SCORED_CONVERSATIONS": "training refuses below",
    "DSPY__TRAINING__MIN_FAILURES": "conversations scored below .5; training refuses below",
    "DSPY__TRAINING__MIN_RATERS": "training refuses below",
    "DSPY__TRAINING__MIN_ACCEPT_CONVERSATIONS": "conversations kept aside for the gate; training refuses below",
    "DSPY__TRAINING__ACCEPT_MARGIN": "the gain's lower bound must be above it",
    "DSPY__TRAINING__MIN_CALIBRATION_ANSWERS": "rated answers that a judge is tried on before it is trusted",
    "DSPY__TRAINING__MIN_CALIBRATION_FAILURES": "of them, in the smaller of the two classes liked and disliked",
    "DSPY__TRAINING__MIN_AGREEMENT": (
        "of at least 5 and the newest 10 experiments, the share in which users agreed with the gate in sign; "
        "training refuses below"
    ),
    "DSPY__TRAINING__SELECT_SIZE": "conversations to choose among candidates on",
    "DSPY__TRAINING__MAX_RATER_SHARE": (
        "of the examples, that one person may stand behind; among few people twice an equal part"
    ),
    "DSPY__TRAINING__UNCALIBRATED": "what happens when the judge cannot be trusted: `reward_model` or `refuse`",
    "DSPY__TRAINING__MAX_CALLS": "model calls a run may make",
    "DSPY__TRAINING__MAX_COST": "US dollars a run may spend, calls in flight included",
    "DSPY__TRAINING__MAX_MINUTES": "that one process of a run may take",
    "DSPY__TRAINING__MAX_OUTPUT_TOKENS": "of one answer; raise it for models that think before they answer",
    "DSPY__TRAINING__MAX_ERROR_RATE": "share of failed model calls that ends a run",
    "DSPY__TRAINING__NUM_THREADS": "model calls in flight",
    "DSPY__TRAINING__PRICES": (
        'dollars per million tokens in and out by model, as JSON: `{"openai/mine": [0.15, 0.60]}`; overrules '
        "the price list"
    ),
    "DSPY__TRAINING__RUNS_FOLDER": "where runs keep the answers they paid for",
    "DSPY__TRAINING__SEED": "of the split and the optimizer",
    "DSPY__SERVER__HOST": (
        "where `bindu serve` listens; callers from other addresses than this machine's own need a key (`bindu "
        "keys add`)"
    ),
    "DSPY__SERVER__PORT": "0 takes a free one",
    "DSPY__SERVER__REQUIRE_KEY": "whether programs on the same machine need a key too",
    "DSPY__SERVER__MAX_BODY": "bytes of one request to the JSON API",
    "DSPY__SERVER__MAX_BATCH": "tasks of one request",
    "DSPY__SERVER__RATE_LIMIT": (
        "requests per key, else per address, of one process: a number and `second`, `minute`, `hour` or `day`"
    ),
    "DSPY__SERVER__BROWSER_RATE_LIMIT": "of feedback with tokens, per rater and per address",
    "DSPY__SERVER__TOKEN_HOURS": "that a feedback token is good for",
    "DSPY__SERVER__SESSION_HOURS": (
        "that a browser stays signed in to the [dashboard](http.md#the-dashboard), unless its key is revoked before"
    ),
    "DSPY__SERVER__ORIGINS": "sites whose pages may send feedback, as JSON",
    "DSPY__SERVER__OPEN_METRICS": "whether `/metrics` needs no key from other addresses",
    "DSPY__PROXY__UPSTREAM": "the provider behind the proxy: any OpenAI-compatible base URL",
    "DSPY__PROXY__UPSTREAM_KEY": "the provider's key; default the one that the caller sends",
    "DSPY__PROXY__TIMEOUT": "seconds that the provider may be silent",
    "DSPY__PROXY__MAX_BODY": "bytes of one request",
    "DSPY__PROXY__SPOOL_FOLDER": "where exchanges wait for a database that is away",
    "DSPY__PROXY__SPOOL_MB": "when it is full, new exchanges are not recorded, and counted",
    "DSPY__WORKER__TRAIN": (
        "when `bindu worker` trains: five fields as in a crontab, in UTC; empty switches the job off"
    ),
    "DSPY__WORKER__CANARY": "when it runs a step of the canary",
    "DSPY__WORKER__OPTIMIZER": "what it trains with",
    "DSPY__WORKER__STRATEGY": "which part of a conversation it learns from",
    "DSPY__WORKER__REQUIRE_FEEDBACK": "only from interactions with feedback",
    "DSPY__WORKER__LEASE_SECONDS": "after which another replica takes the job of one that gives no sign of life",
}


def meaning_of(key: str) -> str:
    """For where no link can be followed."""
    return _LINK.sub(r"\1", MEANINGS[key])
