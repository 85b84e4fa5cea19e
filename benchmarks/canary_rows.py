"""The bench's scenarios, and the bars that they are measured against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from statistics import NormalDist, median

from canary_runs import POLICY, Result
from canary_world import World
from scipy.special import betaincinv

from bindu.dspy.planning import required_feedback
from bindu.dspy.policy import Policy

__all__ = ["GRID", "ROWS", "SCENARIOS", "Figure", "Row", "Scenario", "rate"]

GAIN = 0.05
Count = Callable[[Result], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A world, how it is decided in, and how many runs a full bench gives it."""

    world: World
    policy: Policy = POLICY
    rater_rule: bool = False
    runs: int = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A line of the table."""

    row: str
    rule: str
    what: str
    value: float
    low: float  # of the 95 % interval
    high: float
    runs: int
    bar: float | None = None
    at_most: bool = True
    percent: bool = True
    surely_missed: bool = False  # the 99 % interval excludes the bar

    @property
    def missed(self) -> bool:
        """Whether the value itself is beyond the bar."""
        return self.bar is not None and (self.value > self.bar if self.at_most else self.value < self.bar)


def promoted(result: Result) -> bool:
    return result.outcome == "promoted"


def harmed(result: Result) -> bool:
    return result.cause == "harm"


def stopped(result: Result) -> bool:
    return not result.won and result.outcome in ("rolled_back", "inconclusive") and result.feedback <= 1_000


def thrown_away(result: Result) -> bool:
    return result.outcome == "rolled_back"


def by(cause: str) -> Count:
    return lambda result: result.cause == cause


def asked(result: Result) -> bool:
    return result.outcome == "asked"


def won(result: Result) -> bool:
    return result.won


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How often something happens in a scenario, beside its bar."""

    scenario: str
    what: str
    count: Count = promoted
    rule: str = "evidence"
    bar: float | None = None
    at_most: bool = True
    among: Count | None = None

    def measure(self, results: Sequence[Result]) -> Figure:
        """Count among the results; without any among them, nothing is shown and nothing is missed."""
        seen = [result for result in results if self.among is None or self.among(result)]
        figure = rate(sum(map(self.count, seen)), len(seen), self.bar, self.at_most)
        return replace(figure, row=self.scenario, rule=self.rule, what=self.what)


def rate(hits: int, runs: int, bar: float | None = None, at_most: bool = True) -> Figure:
    """A share of runs with its Clopper-Pearson interval."""
    low, high = clopper_pearson(hits, runs, 0.99)
    sure = bar is not None and (low > bar if at_most else high < bar)
    low, high = clopper_pearson(hits, runs, 0.95)
    value = hits / runs if runs else (0.0 if at_most else 1.0)
    return Figure(
        row="",
        rule="",
        what="",
        value=value,
        low=low,
        high=high,
        runs=runs,
        bar=bar,
        at_most=at_most,
        surely_missed=sure,
    )


def clopper_pearson(hits: int, runs: int, level: float) -> tuple[float, float]:
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, runs - hits + 1, tail))
    return low, 1.0 if hits == runs else float(betaincinv(hits + 1, runs - hits, 1 - tail))


def overhead(results: Sequence[Result]) -> Figure:
    """Median feedback to a verdict over what one look at a fixed horizon needs; interval by order statistics."""
    horizon = required_feedback(GAIN, variance=World().variance)
    spent = sorted(result.feedback for result in results)

    def bounds(level: float) -> tuple[float, float]:
        far = NormalDist().inv_cdf((1 + level) / 2) * sqrt(len(spent)) / 2
        low = max(0, int(len(spent) / 2 - far))
        return spent[low] / horizon, spent[len(spent) - 1 - low] / horizon

    low, high = bounds(0.95)
    return Figure(
        row="better_5_no_floor",
        rule="evidence",
        what=f"+5: median feedback to verdict / n80 at 50/50 ({horizon:,}), no 24 h floor",
        value=median(spent) / horizon,
        low=low,
        high=high,
        runs=len(spent),
        bar=1.25,
        percent=False,
        surely_missed=bounds(0.99)[0] > 1.25,
    )


CLUSTERED = World(users=400, user_spread=0.15, second_votes=0.3)
OUTAGE = World(outage=(30.0, 36.0))
AWARE = World(aware=0.05, accounts=5)
SCENARIOS: dict[str, Scenario] = {
    "same": Scenario(world=World(), runs=8_000),
    "worse_2": Scenario(world=World(effect=-0.02), runs=8_000),
    "worse_5": Scenario(world=World(effect=-0.05), runs=8_000),
    "worse_10": Scenario(world=World(effect=-0.10), runs=8_000),
    "better_3": Scenario(world=World(effect=0.03), runs=4_000),
    "better_5": Scenario(world=World(effect=0.05), runs=4_000),
    "better_10": Scenario(world=World(effect=0.10), runs=4_000),
    "better_5_no_floor": Scenario(world=World(effect=0.05), policy=replace(POLICY, min_age_hours=0.0)),
    "drift": Scenario(world=World(drift=0.10)),
    "good_news_late": Scenario(world=World(delay_by_score=24.0)),
    "clustered": Scenario(world=CLUSTERED),
    "turns_40_worse": Scenario(world=World(effect=0.05, effect_after_win=-0.40)),
    "turns_5_worse": Scenario(world=World(effect=0.05, effect_after_win=-0.05)),
    "late_same": Scenario(world=World(delay=72.0)),
    "late_better_5": Scenario(world=World(delay=72.0, effect=0.05)),
    "bots_same": Scenario(world=World(bots=0.5)),
    "bots_better_5": Scenario(world=World(bots=0.5, effect=0.05)),
    "outage_same": Scenario(world=OUTAGE),
    "outage_better_5": Scenario(world=replace(OUTAGE, effect=0.05)),
    "silenced": Scenario(world=World(silenced=0.5), runs=1_000),
    "aware": Scenario(world=AWARE, rater_rule=True),
    "aware_unchecked_1": Scenario(world=replace(AWARE, aware=0.01, accounts=0), runs=1_000),
    "aware_unchecked_2": Scenario(world=replace(AWARE, aware=0.02, accounts=0), runs=1_000),
    "aware_unchecked_5": Scenario(world=replace(AWARE, accounts=0), runs=1_000),
}
PEERS = ("means", "z-test", "bayes")
ROWS = [
    Row(scenario="same", what="A/A: promoted", bar=0.03),
    Row(scenario="same", what="A/A: rolled back by harm", count=harmed, bar=0.03),
    Row(scenario="same", what="A/A: ended by assignment mismatch", count=by("mismatch")),
    Row(scenario="same", what="A/A: rolled back by a guardrail", count=by("guardrail")),
    Row(scenario="same", what="A/A: a person is asked", count=asked),
    Row(scenario="worse_2", what="2 points worse: promoted", bar=0.003),
    Row(scenario="worse_5", what="5 points worse: promoted", bar=0.001),
    Row(scenario="worse_10", what="10 points worse: promoted", bar=0.0),
    Row(
        scenario="worse_10", what="10 points worse: stopped by 1,000 feedbacks", count=stopped, bar=0.95, at_most=False
    ),
    Row(scenario="better_3", what="3 points better: promoted", bar=0.90, at_most=False),
    Row(scenario="better_5", what="5 points better: promoted", bar=0.98, at_most=False),
    Row(scenario="better_5", what="5 points better: a person is asked", count=asked),
    Row(scenario="better_10", what="10 points better: promoted", bar=0.995, at_most=False),
    *(
        row
        for name, what in (
            ("drift", "daily drift"),
            ("good_news_late", "late good news"),
            ("clustered", "clustered users"),
        )
        for row in (
            Row(scenario=name, what=f"A/A, {what}: promoted", bar=0.05),
            Row(scenario=name, what=f"A/A, {what}: rolled back by harm", count=harmed, bar=0.10),
        )
    ),
    Row(
        scenario="turns_40_worse", what="40 points worse from the win: promoted of those that won", among=won, bar=0.02
    ),
    Row(scenario="turns_5_worse", what="5 points worse from the win: promoted of those that won", among=won, bar=0.50),
    *(
        row
        for name, what in (("late", "delay 72 h"), ("bots", "50 % bots"), ("outage", "outage with 5x votes"))
        for row in (
            Row(scenario=f"{name}_same", what=f"A/A, {what}: promoted", bar=0.05),
            Row(scenario=f"{name}_better_5", what=f"+5, {what}: promoted", bar=0.75, at_most=False),
        )
    ),
    Row(scenario="silenced", what="half of the candidate's low votes never given: promoted"),
    Row(scenario="silenced", what="the same: a person is asked", count=asked),
    Row(scenario="aware", what="A/A, 5 % arm-aware votes of 5 accounts, rater rule: promoted", bar=0.06),
    Row(scenario="aware", what="the same: a person is asked", count=asked),
    *(
        Row(scenario=f"aware_unchecked_{part}", what=f"A/A, {part} % arm-aware anonymous votes: promoted")
        for part in (1, 2, 5)
    ),
    *(
        row
        for rule in PEERS
        for row in (
            Row(scenario="same", rule=rule, what="A/A: promoted"),
            Row(scenario="worse_5", rule=rule, what="5 points worse: promoted"),
            Row(scenario="better_5", rule=rule, what="5 points better: thrown away", count=thrown_away),
        )
    ),
    Row(scenario="better_5", what="5 points better: thrown away", count=thrown_away),
]
RATES, MEANS = (5, 20, 50, 200), (0.5, 0.7, 0.9, 0.97)
KINDS = {"thumbs": 1.0, "ratings": 0.0, "mixed": 0.5}
GRID: dict[str, Scenario] = {
    f"grid {per_hour}/h {mean:.2f} {kind}": Scenario(
        world=World(feedback_per_hour=per_hour, thumbs_mean=mean, rating_mean=mean, thumbs=thumbs, feedback_rate=0.25),
        runs=1_000 if per_hour > 100 else 2_000,
    )
    for per_hour in RATES
    for mean in MEANS
    for kind, thumbs in KINDS.items()
}
