"""What one decision costs: which of two prompts answers, beside the evaluators of feature flags.

``python benchmarks/router.py [ROUNDS]``. Everybody decides about a flag at 10 % for the same units, from memory, in the
same run and in turns; figures are CPU time of the deciding thread, the median over the rounds. Bars: 1,000 ns for a
unit's first request and 200 ns for a pinned one; exit code 1 when one is missed. The peers are the dependency group
``bench``: ``uv sync --all-extras --group bench``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from time import thread_time_ns

from machine import machine

from bindu.dspy.models import Arm, Prompt, Serving, Trial
from bindu.dspy.postgres.embedded import start
from bindu.dspy.postgres.storage import PostgresStorage
from bindu.dspy.prompt_selector import select_prompt_with_canary, stop_prompt_refresh
from bindu.dspy.routing import arm_of, salt_of, select
from bindu.dspy.storage import use_storage
from bindu.settings import StorageSettings

SHARE = 0.1
UNITS = [f"conversation-{number}" for number in range(5_000)]
BARS = {"select, first request": 1_000.0, "select, pinned": 200.0}
INSTALL = "uv sync --all-extras --group bench"

Decide = Callable[[str], bool]  # whether a unit sees the candidate


def the_serving() -> Serving:
    active, candidate = (
        Prompt(agent_id="bench", id=number, text="You help.", status="active", traffic=0.5) for number in (1, 2)
    )
    return Serving(agent_id="bench", version=2, active=active, candidate=candidate, share=SHARE, experiment_id=1)


def growthbook(_: ExitStack) -> Decide:
    from growthbook import GrowthBook

    rule = {"force": True, "coverage": SHARE, "hashAttribute": "id"}
    evaluator = GrowthBook(features={"flag": {"defaultValue": False, "rules": [rule]}})

    def decide(unit: str) -> bool:
        evaluator.set_attributes({"id": unit})
        return bool(evaluator.is_on("flag"))

    return decide


def openfeature(_: ExitStack) -> Decide:
    from openfeature import api
    from openfeature.evaluation_context import EvaluationContext
    from openfeature.flag_evaluation import FlagResolutionDetails
    from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

    salt = salt_of("bench", 1)

    def resolve(_: object, context: EvaluationContext) -> FlagResolutionDetails[bool]:
        return FlagResolutionDetails(arm_of(context.targeting_key or "", salt, SHARE) == "candidate")

    flag = InMemoryFlag("off", {"on": True, "off": False}, context_evaluator=resolve)
    api.set_provider(InMemoryProvider({"flag": flag}))
    client = api.get_client()
    return lambda unit: client.get_boolean_value("flag", False, EvaluationContext(unit))


def unleash(end: ExitStack) -> Decide:
    from UnleashClient import UnleashClient
    from UnleashClient.cache import FileCache

    parameters = {"rollout": str(round(SHARE * 100)), "stickiness": "userId", "groupId": "flag"}
    feature = {"name": "flag", "enabled": True, "strategies": [{"name": "flexibleRollout", "parameters": parameters}]}
    cache = FileCache("bench", directory=end.enter_context(tempfile.TemporaryDirectory()))
    cache.bootstrap_from_dict({"version": 1, "features": [feature]})
    client = UnleashClient(
        "http://localhost:1",
        "bench",
        disable_metrics=True,
        disable_registration=True,
        cache=cache,
        refresh_interval=600,
    )
    client.initialize_client(fetch_toggles=False)
    end.callback(client.destroy)
    return lambda unit: client.is_enabled("flag", {"userId": unit})


def launchdarkly(end: ExitStack) -> Decide:
    from ldclient import Config, Context, LDClient
    from ldclient.integrations import Files

    weights = [{"variation": 0, "weight": round(SHARE * 100_000)}, {"variation": 1, "weight": 90_000}]
    flag = {"key": "flag", "on": True, "variations": [True, False], "salt": "s", "version": 1}
    flag |= {"fallthrough": {"rollout": {"variations": weights}}, "offVariation": 1}
    path = Path(end.enter_context(tempfile.TemporaryDirectory()), "flags.json")
    path.write_text(json.dumps({"flags": {"flag": flag}}), encoding="utf-8")
    source = Files.new_data_source(paths=[str(path)])
    client = LDClient(Config("none", update_processor_class=source, send_events=False))
    end.callback(client.close)
    return lambda unit: bool(client.variation("flag", Context.create(unit), False))


def eppo(end: ExitStack) -> Decide:
    import eppo_client

    shards = [{"salt": "s", "ranges": [{"start": 0, "end": round(SHARE * 10_000)}]}]
    rest = [{"salt": "s", "ranges": [{"start": round(SHARE * 10_000), "end": 10_000}]}]
    splits = [{"variationKey": "on", "shards": shards}, {"variationKey": "off", "shards": rest}]
    flag = {"key": "flag", "enabled": True, "variationType": "BOOLEAN", "totalShards": 10_000}
    flag |= {"variations": {"on": {"key": "on", "value": True}, "off": {"key": "off", "value": False}}}
    flag |= {"allocations": [{"key": "all", "rules": [], "splits": splits, "doLog": False}]}
    told = {"createdAt": "2026-01-01T00:00:00.000Z", "format": "SERVER", "environment": {"name": "bench"}}
    client = eppo_client.init(
        eppo_client.ClientConfig(
            api_key="none",
            assignment_logger=eppo_client.AssignmentLogger(),
            poll_interval_seconds=None,
            initial_configuration=eppo_client.Configuration(
                flags_configuration=json.dumps(told | {"flags": {"flag": flag}}).encode()
            ),
        )
    )
    end.callback(client.shutdown)
    return lambda unit: client.get_boolean_assignment("flag", unit, {}, False)


PEERS: dict[str, Callable[[ExitStack], Decide]] = {
    "growthbook": growthbook,
    "openfeature-sdk": openfeature,
    "UnleashClient": unleash,
    "launchdarkly-server-sdk": launchdarkly,
    "eppo-server-sdk": eppo,
}


def ours() -> dict[str, Callable[[], float]]:
    serving, pins = the_serving(), dict[str, Arm]()

    def first() -> float:
        pins.clear()
        began = thread_time_ns()
        for unit in UNITS:
            select(serving, unit, 0.5, pins)
        return (thread_time_ns() - began) / len(UNITS)

    def pinned() -> float:
        began = thread_time_ns()
        for unit in UNITS:
            select(serving, unit, 0.5, pins)
        return (thread_time_ns() - began) / len(UNITS)

    return {"select, first request": first, "select, pinned": pinned}


def timed(decide: Decide) -> Callable[[], float]:
    def one_round() -> float:
        began = thread_time_ns()
        for unit in UNITS:
            decide(unit)
        return (thread_time_ns() - began) / len(UNITS)

    return one_round


async def awaited() -> float:
    began = thread_time_ns()
    for unit in UNITS:
        await select_prompt_with_canary(unit_id=unit, agent_id="bench")
    return (thread_time_ns() - began) / len(UNITS)


def peers(end: ExitStack) -> tuple[dict[str, Callable[[], float]], list[str]]:
    """What each costs, and who is missing. A peer that does not split the traffic at the share is an error."""
    found: dict[str, Callable[[], float]] = {}
    missing = []
    for name, prepare in PEERS.items():
        try:
            decide = prepare(end)
        except ModuleNotFoundError:
            missing.append(name)
            continue
        seen = sum(map(decide, UNITS)) / len(UNITS)
        if abs(seen - SHARE) > 0.02:
            raise SystemExit(f"error: {name} gave the candidate to {seen:.1%} of the units instead of {SHARE:.0%}")
        found[f"{name} {version(name)}"] = timed(decide)
    return found, missing


async def measure(rounds: int, end: ExitStack) -> tuple[dict[str, list[float]], list[str]]:
    server = start(Path(end.enter_context(tempfile.TemporaryDirectory())) / "postgres")
    end.callback(server.close)
    storage = await PostgresStorage.connect(server.url, StorageSettings())
    await storage.bootstrap("bench", "You help.")
    trial = Trial(
        agent_id="bench", text="You help well.", expected_version=1, origin="manual", parent_id=1, share=SHARE
    )
    await storage.begin_trial(trial)
    others, missing = peers(end)
    contestants = ours() | others
    figures: dict[str, list[float]] = {name: [] for name in [*contestants, "the awaited public function"]}
    with use_storage(storage):
        await awaited()
        for _ in range(rounds):  # in turns: a machine that slows down slows everybody
            for name, one_round in contestants.items():
                figures[name].append(one_round())
            figures["the awaited public function"].append(await awaited())
        await stop_prompt_refresh()
    await storage.close()
    return figures, missing


def main() -> int:
    logging.disable(logging.WARNING)  # some peers complain about the server that they are not given
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 51
    print(machine())
    with ExitStack() as end:
        figures, missing = asyncio.run(measure(rounds, end))
    medians = {name: statistics.median(values) for name, values in figures.items()}
    base = medians["select, first request"]
    for name, median in sorted(medians.items(), key=lambda pair: pair[1]):
        spread = f"fastest round {min(figures[name]):.0f}, slowest {max(figures[name]):.0f}"
        bar = f"  bar {BARS[name]:.0f}" if name in BARS else ""
        print(f"{name:32} {median:8.0f} ns  {median / base:6.2f} x  {spread}{bar}")
    for name in missing:
        print(f"{name:32} not installed; compare with it by: {INSTALL}")
    missed = [name for name, bar in BARS.items() if medians[name] > bar]
    print(f"missed: {', '.join(missed)}" if missed else "all bars met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
