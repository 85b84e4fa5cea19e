"""What the canary's verdicts are worth: error rates, power and time to a verdict, by simulation, against their bars.

``python benchmarks/canary.py [--quick] [--only NAME ...] [--rules NAME ...] [--runs FACTOR] [--seed N] [--json FILE]``.
Every window is decided by ``fold``, ``inputs_at``, ``decide`` and ``start_after_win`` themselves. The peers (the
specification's means rule, a z-test and a Bayesian rule looked at every hour) see the same streams. Exit code 1 when a
bar is missed: by the figure itself, with ``--quick`` only when its 99 % interval excludes the bar. NAME: a scenario
of the table, ``grid``, ``window`` or ``year``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path
from zlib import crc32

from canary_peers import RULES, Year, year
from canary_rows import GRID, PEERS, ROWS, SCENARIOS, Figure, Scenario, by, overhead, promoted, rate
from canary_runs import Result, evidence_rule
from canary_window import milliseconds
from machine import machine

CHUNK = 20  # runs that a process takes at a time
QUICK, QUICK_GRID, QUICK_YEARS = 0.035, 0.01, 2
YEARS = 40
WINDOW_BAR = 5.0  # milliseconds
GRID_BARS = {"promoted": 0.05, "rolled back by harm": 0.10}


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some runs of a scenario by a rule; equal scenarios and numbers are equal streams."""

    scenario: str
    rule: str
    seed: int
    first: int
    runs: int


def run_chunk(chunk: Chunk) -> tuple[Chunk, list[Result], float]:
    """Results in order, and the CPU seconds that they took."""
    scenario, began = (SCENARIOS | GRID)[chunk.scenario], time.process_time()
    results = []
    for number in range(chunk.first, chunk.first + chunk.runs):
        seeds = seeds_of(chunk.seed, chunk.scenario, number)
        if chunk.rule == "evidence":
            done = evidence_rule(scenario.world, seeds, scenario.policy, rater_rule=scenario.rater_rule)
        else:
            done = RULES[chunk.rule](scenario.world, seeds)
        results.append(done)
    return chunk, results, time.process_time() - began


def run_year(asked: tuple[str, int, int]) -> tuple[str, Year]:
    rule, seed, number = asked
    return rule, year(rule, seeds_of(seed, "year", number))


def seeds_of(seed: int, name: str, number: int) -> tuple[int, ...]:
    return seed, crc32(name.encode()), number


@dataclass(slots=True)
class Bench:
    """Which rows are asked for, and what measured them."""

    pool: Pool
    only: list[str]
    rules: list[str]
    seed: int
    quick: bool
    factor: float
    spent: dict[tuple[str, str], float] = field(default_factory=dict)  # CPU seconds, by scenario and rule

    def wants(self, name: str) -> bool:
        return not self.only or any(name.startswith(asked) for asked in self.only)

    def simulate(
        self, wanted: Iterable[tuple[str, Scenario, str]], factor: float
    ) -> dict[tuple[str, str], list[Result]]:
        """Runs by scenario and rule, in the order of their numbers."""
        chunks = [
            Chunk(name, rule, self.seed, first, min(CHUNK, runs - first))
            for name, scenario, rule in wanted
            for runs in [max(CHUNK, round(scenario.runs * factor))]
            for first in range(0, runs, CHUNK)
        ]
        found: dict[tuple[str, str], list[tuple[int, list[Result]]]] = {}
        for chunk, results, seconds in self.pool.imap_unordered(run_chunk, chunks):
            key = chunk.scenario, chunk.rule
            found.setdefault(key, []).append((chunk.first, results))
            self.spent[key] = self.spent.get(key, 0.0) + seconds
        return {key: [result for _, results in sorted(parts) for result in results] for key, parts in found.items()}

    def table(self) -> list[Figure]:
        """The rows that count runs, then the time to a verdict."""
        rows = [row for row in ROWS if self.wants(row.scenario) and row.rule in self.rules]
        wanted = dict.fromkeys((row.scenario, row.rule) for row in rows)
        if self.wants("better_5_no_floor") and "evidence" in self.rules:
            wanted["better_5_no_floor", "evidence"] = None
        factor = self.factor * (QUICK if self.quick else 1)
        runs = self.simulate(((name, _fewer(SCENARIOS[name], rule), rule) for name, rule in wanted), factor)
        figures = [row.measure(runs[row.scenario, row.rule]) for row in rows]
        timed = runs.get(("better_5_no_floor", "evidence"))
        return figures if timed is None else [*figures, overhead(timed)]

    def grid(self) -> list[Figure]:
        """A/A at every rate, mean and mix: each cell, then the worst of them."""
        wanted = [(name, scenario, "evidence") for name, scenario in GRID.items() if self.wants(name)]
        if not wanted or "evidence" not in self.rules:
            return []
        runs = self.simulate(wanted, self.factor * (QUICK_GRID if self.quick else 1))
        figures = []
        for what, count in (("promoted", promoted), ("rolled back by harm", by("harm"))):
            cells = [
                replace(
                    rate(sum(map(count, results)), len(results), GRID_BARS[what]), row=name, rule="evidence", what=what
                )
                for (name, _), results in runs.items()
            ]
            cells.sort(key=lambda cell: list(GRID).index(cell.row))
            worst = max(cells, key=lambda cell: cell.value)
            sure = any(cell.surely_missed for cell in cells)
            figures += [replace(cell, bar=None) for cell in cells]
            figures.append(replace(worst, what=f"A/A: {what}, the worst cell ({worst.row[5:]})", surely_missed=sure))
        return figures

    def window(self) -> list[Figure]:
        """The time of a fold."""
        if not self.wants("window"):
            return []
        return [
            _timed(
                milliseconds(share, self.seed, first=first),
                f"{'first' if first else 'a'} window of 1,000 units at share {share}, ms",
                # near its bar, so a busy machine's minute says nothing about it
                bar=None if first and self.quick else WINDOW_BAR,
            )
            for share in (0.1, 0.5)
            for first in (True, False)
        ]

    def years(self) -> dict[str, list[Year]]:
        """A year of daily candidates per rule."""
        if not self.wants("year"):
            return {}
        number = max(2, round(self.factor * (QUICK_YEARS if self.quick else YEARS)))
        asked = [(rule, self.seed, each) for rule in self.rules for each in range(number)]
        found: dict[str, list[Year]] = {rule: [] for rule in self.rules}
        for rule, passed in self.pool.imap_unordered(run_year, asked):
            found[rule].append(passed)
        return found


def _fewer(scenario: Scenario, rule: str) -> Scenario:
    """What is only compared needs fewer runs than what is held to a bar."""
    return scenario if rule == "evidence" else replace(scenario, runs=min(scenario.runs, 2_000))


def _timed(spent: list[float], what: str, *, bar: float | None) -> Figure:
    low, middle, high = (statistics.quantiles(spent, n=40)[place] for place in (0, 19, 38))
    return Figure(
        row="window", rule="evidence", what=what, value=middle, low=low, high=high, runs=len(spent),
        bar=bar, percent=False, surely_missed=bar is not None and low > bar,
    )  # fmt: skip


def line(figure: Figure, quick: bool) -> str:
    """A row of the table."""
    missed = figure.surely_missed if quick else figure.missed
    ok = "" if figure.bar is None else "MISSED" if missed else "ok"
    shown = _percent if figure.percent else "{:.2f}".format
    bar = "" if figure.bar is None else f"{'<=' if figure.at_most else '>='} {shown(figure.bar)}"
    between = f"{shown(figure.low)} - {shown(figure.high)}"
    measured = f"{shown(figure.value)} | {between} | {figure.runs:,}"
    return f"| {figure.rule} | {figure.what} | {bar} | {measured} | {figure.row} | {ok} |"


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def print_grid(figures: list[Figure]) -> None:
    """A line per rate and kind, a column per mean; promoted / rolled back by harm, in percent."""
    cells: dict[tuple[str, str], dict[str, list[str]]] = {}
    for figure in figures:
        _, rate_, mean, kind = figure.row.split()
        cells.setdefault((rate_, kind), {}).setdefault(mean, []).append(f"{100 * figure.value:.3g}")
    means = list(dict.fromkeys(mean for row in cells.values() for mean in row))
    print(f"\n| A/A: promoted / harm, % | {' | '.join(f'mean {mean}' for mean in means)} |")
    print("|---" * (len(means) + 1) + "|")
    for (rate_, kind), row in cells.items():
        print(f"| {rate_}, {kind} | {' | '.join(' / '.join(row.get(mean, [])) for mean in means)} |")


def print_years(years: dict[str, list[Year]]) -> None:
    """Means over the years, with the standard error of the gain."""
    print("\n| a year of daily candidates | tried | promoted | truly worse | true gain, points | claimed |")
    print("|---|---|---|---|---|---|")
    for rule, passed in years.items():
        tried, promoted_, worse, gained, claimed = (
            statistics.mean(getattr(each, name) for each in passed)
            for name in ("experiments", "promoted", "worse", "gained", "claimed")
        )
        error = statistics.stdev(each.gained for each in passed) / len(passed) ** 0.5
        print(
            f"| {rule} ({len(passed)} years) | {tried:.1f} | {promoted_:.1f} | {worse / max(promoted_, 1e-9):.0%} "
            f"| {gained:+.1f} +- {1.96 * error:.1f} | {claimed:+.1f} |"
        )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a minute or two; a bar is missed beyond doubt only")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="scenarios by the beginning of their names"
    )
    parser.add_argument("--rules", nargs="+", default=["evidence", *PEERS], choices=["evidence", *PEERS])
    parser.add_argument("--runs", type=float, default=1.0, metavar="FACTOR", help="of the runs of every row")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def main() -> int:
    asked, began = arguments(), time.monotonic()
    print(f"{machine()}, seed {asked.seed}")
    with get_context("spawn").Pool(os.cpu_count()) as pool:
        bench = Bench(pool, asked.only, asked.rules, asked.seed, asked.quick, asked.runs)
        figures = [*bench.window(), *bench.table()]
        cells = bench.grid()
        years = bench.years()
    lines = [*figures, *(cell for cell in cells if cell.bar is not None)]
    print("\n| rule | what | bar | measured | 95 % interval | runs | stream | |\n|---|---|---|---|---|---|---|---|")
    for figure in lines:
        print(line(figure, asked.quick))
    if cells:
        print_grid([cell for cell in cells if cell.bar is None])
    if years:
        print_years(years)
    missed = [figure.what for figure in lines if (figure.surely_missed if asked.quick else figure.missed)]
    print(f"\n{time.monotonic() - began:.0f} s; " + (f"MISSED: {'; '.join(missed)}" if missed else "all bars met"))
    if asked.json is not None:
        told = {
            "machine": machine(),
            "seed": asked.seed,
            "quick": asked.quick,
            "figures": list(map(asdict, [*figures, *cells])),
        }
        told["cpu_seconds"] = {" ".join(key): round(spent, 2) for key, spent in bench.spent.items()}
        told["years"] = {rule: list(map(asdict, passed)) for rule, passed in years.items()}
        asked.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
