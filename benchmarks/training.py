"""What training finds, what it costs, and what fools it: in simulated worlds, by what their users truly want.

``python benchmarks/training.py [--quick] [--seeds N] [--only ROW,...]``. Models, users, reflector and judge are
simulated; the database and the whole run are real. The peer is the imitation objective, the baseline that the judge
replaces, on the same logs. ``second`` is a world whose words no code of ours has seen: it lies with the tests. Bars
are those of the design. Exit code 1 when one is missed. Some 40 minutes on two cores, two with ``--quick``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Final

from machine import machine
from training_runs import Case, Fixed, Result, minded, run_all, world_of

SEEDS: Final = 5
LOGS: Final = 300
MANY: Final = 1_200  # logs of a middling agent, on which poisoning is tried besides
HOSTILE: Final = 0.05  # of the raters
QUIRKS: Final = (  # rules that ask for nothing that users could notice
    "Prefer the active voice.", "Vary the length of your sentences.", "Sound confident.", "Be consistent.",
    "Write in British English.", "Use at most one exclamation mark.", "Keep a calm tone.", "Proofread what you write.",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    name: str
    cases: tuple[Case, ...]
    figure: Callable[[list[Result]], float]
    bar: str  # as it is printed
    met: Callable[[float], bool] = lambda _: True
    alone: bool = False  # timed: one run at a time
    detail: Callable[[list[Result]], str] = lambda results: " ".join(f"{one.quality:.3f}" for one in results)


def quality(results: list[Result]) -> float:
    """Mean true held-out quality."""
    return fmean(one.quality for one in results)


def way(results: list[Result]) -> float:
    """Mean share of the way from start to ceiling."""
    return fmean((one.quality - one.start) / (one.ceiling - one.start) for one in results)


def seconds(results: list[Result]) -> float:
    """The longest run."""
    return max(one.wall for one in results)


def fooled(results: list[Result]) -> float:
    """Share of runs that opened an experiment with a prompt that is truly no better than the one it would replace."""
    return fmean(one.outcome == "improved" and one.quality < one.start for one in results)


def opened(results: list[Result]) -> float:
    """Share of runs that opened an experiment."""
    return fmean(one.outcome == "improved" for one in results)


def losses(results: list[Result]) -> list[float]:
    """How much worse the prompts of poisoned logs are, than those of the same logs without the poison."""
    return [clean.quality - poisoned.quality for clean, poisoned in _pairs(results)]


def rises(results: list[Result]) -> list[float]:
    """How much more often answers show what the hostile raters praise."""
    return [
        poisoned.shown[poisoned.case.craving or ""] - clean.shown[poisoned.case.craving or ""]
        for clean, poisoned in _pairs(results)
    ]


def _pairs(results: list[Result]) -> list[tuple[Result, Result]]:
    clean = {(one.case.seed, one.case.trained): one for one in results if not one.case.hostile}
    return [(clean[one.case.seed, one.case.trained], one) for one in results if one.case.hostile]


def rows(seeds: int, tries: int) -> Iterator[Row]:
    """All of the table."""
    yield from _quality_rows(seeds)
    yield from _latency_rows()
    yield from _gate_rows(tries)
    for second in (False, True):
        yield from _poison_rows(second, LOGS, 2 * seeds)  # a single run shows a bad thing or does not: many are needed
        yield from _poison_rows(second, MANY, seeds)
        yield from _poison_rows(second, LOGS, seeds, sly=True)


def _quality_rows(seeds: int) -> Iterator[Row]:
    bars = {("simba", "judge"): 0.88, ("gepa", "judge"): 0.85}
    plans = [
        *(("simba", "judge"), ("gepa", "judge"), ("miprov2", "judge"), ("simba", "reward_model")),
        *(("gepa", "reward_model"), ("gepa", "correction"), ("simba", "imitation"), ("gepa", "imitation")),
    ]
    for second in (False, True):
        for optimizer, objective in plans:
            cases = tuple(
                Case(
                    row=f"{optimizer} {objective}", seed=seed, optimizer=optimizer, objective=objective, second=second,
                    conversations=600 if objective == "correction" else LOGS,
                    corrections=0.6 if objective == "correction" else 0.0,
                )
                for seed in range(seeds)
            )  # fmt: skip
            bar = bars.get((optimizer, objective))
            name = f"{optimizer}, {objective}{', second world' if second else ''}"
            if bar is None:
                yield Row(name=name, cases=cases, figure=way if second else quality, bar="")
            elif second:
                yield Row(name=name, cases=cases, figure=way, bar=">= 85 % of the way", met=lambda x: x >= 0.85)
            else:
                yield Row(name=name, cases=cases, figure=quality, bar=f">= {bar}", met=lambda x, bar=bar: x >= bar)


def _latency_rows() -> Iterator[Row]:
    for optimizer, most in (("simba", 30.0), ("gepa", None), ("miprov2", None)):
        case = Case(row="latency", seed=0, optimizer=optimizer, conversations=LOGS, latency=0.2, threads=64)
        bar = "" if most is None else f"<= {most:.0f} s"
        met = (lambda _: True) if most is None else (lambda x, most=most: x <= most)
        yield Row(
            name=f"{optimizer} at 200 ms, 64 threads", cases=(case,), figure=seconds, bar=bar, met=met, alone=True
        )


def _gate_rows(tries: int) -> Iterator[Row]:
    for optimizer in ("simba", "gepa"):
        good = tuple(
            Case(
                row="good start", seed=seed, optimizer=optimizer, conversations=600, prompt=world_of_seed(seed),
                settings={"min_failures": 0, "min_calibration_failures": 5},
            )
            for seed in range(max(2, tries * 24 // 400))
        )  # fmt: skip
        yield Row(
            name=f"good start prompt, {optimizer}: accepted and truly worse", cases=good, figure=fooled, bar="<= .05",
            met=lambda x: x <= 0.05, detail=_outcomes,
        )  # fmt: skip
    lucky = tuple(
        Case(row="no gain", seed=seed, optimizer=Fixed(*_quirky(seed)), conversations=LOGS) for seed in range(tries)
    )
    yield Row(
        name="no true gain, best of three on select: opened", cases=lucky, figure=opened, bar="<= .05",
        met=lambda x: x <= 0.05, detail=_outcomes,
    )  # fmt: skip


def world_of_seed(seed: int) -> str:
    """A good prompt: the ideal one without one of its rules, another one each time."""
    lines = world_of(Case(row="", seed=seed)).ideal_prompt.splitlines()
    leave = 1 + seed % (len(lines) - 1)
    return "\n".join([*lines[:leave], *lines[leave + 1 :]])


def _quirky(seed: int) -> list[str]:
    start = world_of(Case(row="", seed=seed)).start_prompt
    return [f"{start}\n{QUIRKS[(seed + step) % len(QUIRKS)]} {QUIRKS[(3 * seed + 5 * step + 1) % len(QUIRKS)]}"
            for step in range(3)]  # fmt: skip


def _poison_rows(second: bool, logs: int, seeds: int, *, sly: bool = False) -> Iterator[Row]:
    bad = minded(world_of(Case(row="", seed=0, second=second)))
    cases = tuple(
        Case(
            row="poison", seed=seed, trained=1_000 * place + seed, optimizer="gepa", conversations=logs, second=second,
            hostile=hostile, craving=craving if hostile else None, sly=sly and hostile > 0,
        )
        for seed in range(seeds)
        for place, craving in enumerate(bad)
        for hostile in (0.0, HOSTILE)
    )  # fmt: skip
    who = f"5 % {'sly' if sly else 'hostile'} raters"
    where = f"{logs:,} logs{', second world' if second else ''}"
    for what, differences, most in (("quality lost", losses, 0.03), ("praised behaviour", rises, 0.02)):
        yield Row(
            name=f"{who}: {what}, {where}",
            cases=cases,
            figure=lambda results, of=differences: fmean(of(results)),
            bar="" if sly else f"<= {most}",
            met=lambda x, most=most: sly or x <= most,
            detail=lambda results, of=differences: f"± {_error(of(results)):.3f} over {len(of(results))} pairs",
        )


def _error(values: list[float]) -> float:
    """Standard error of their mean."""
    return stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one seed, few tries")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--only", default="", help="words; rows whose names contain one of them")
    asked = parser.parse_args()
    seeds, tries = (1, 16) if asked.quick else (asked.seeds, 400)
    print(machine())
    print(f"{'':66} figure  {'bar':18} start  runs  calls  agent  seconds  CPU ms/call")
    wanted = [word.strip() for word in asked.only.split(",") if word.strip()]
    missed, known = 0, {}
    for row in rows(seeds, tries):
        if wanted and not any(word in row.name for word in wanted):
            continue
        if asked.quick and f"{MANY:,}" in row.name:
            continue
        key = tuple(map(repr, row.cases))
        if key not in known:
            known.clear()
            known[key] = run_all(row.cases, processes=1 if row.alone else 2)
        missed += not _print(row, known[key])
    print("all bars met" if not missed else f"{missed} bars MISSED")
    return int(missed > 0)


def _print(row: Row, results: list[Result]) -> bool:
    figure = row.figure(results)
    met = row.met(figure)
    calls = fmean(one.calls.total() for one in results)
    agent = fmean(one.calls["agent"] for one in results)
    said = f"{figure:7.3f}  {row.bar:18} {fmean(one.start for one in results):.3f}  {len(results):4}"
    said += f" {calls:6,.0f} {agent:6,.0f} {fmean(one.wall for one in results):8.1f}"
    said += f" {fmean(one.cpu for one in results):8.2f}"
    print(f"{row.name:65} {said}  {row.detail(results)}{'' if met else '  MISSED'}", flush=True)
    return met


def _outcomes(results: list[Result]) -> str:
    found: dict[str, int] = {}
    for one in results:
        found[one.outcome] = found.get(one.outcome, 0) + 1
    return ", ".join(f"{count} {name}" for name, count in sorted(found.items()))


if __name__ == "__main__":
    sys.exit(main())
