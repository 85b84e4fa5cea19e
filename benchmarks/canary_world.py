"""The simulated world of the canary's bench: units that arrive, what they score under either prompt, and when.

Everything is drawn before anybody decides, per unit for both prompts, so every rule sees the same stream.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bindu.dspy.planning import window_hours_for

__all__ = ["GUARD_RATES", "Batch", "Stream", "World", "variance"]

GUARD_RATES = {"error": 0.01, "refusal": 0.005, "slow": 0.05}
RATINGS = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
SHAPE = np.array([0.15, 0.20, 0.30, 0.20, 0.15])  # of ratings with mean .5: variance .10
GRID = 1_000  # steps of the mean in the table of rating distributions
CHUNK = 24  # windows drawn at once
OUTAGE_DROP, OUTAGE_VOTES = 0.4, 5

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Where an experiment takes place; means and effects are scores in [0, 1], times are hours."""

    effect: float = 0.0  # candidate minus active, on thumbs and ratings alike
    effect_after_win: float | None = None  # of units that arrive after it
    feedback_per_hour: float = 50.0
    feedback_rate: float = 0.2  # of units
    thumbs: float = 0.5  # of feedback; the rest are ratings
    thumbs_mean: float = 0.7
    rating_mean: float = 0.5
    delay: float = 0.2  # mean, exponential
    delay_by_score: float = 0.0  # added to the mean delay of a score of 1
    drift: float = 0.0  # amplitude of a daily wave in both means
    users: int = 0  # how many share all conversations, unevenly; 0: each conversation is somebody else's
    user_spread: float = 0.0  # standard deviation of the users' means
    second_votes: float = 0.0  # of units, some hours later
    bots: float = 0.0  # of feedback, blind to the answer
    outage: tuple[float, float] | None = None  # both prompts fail, and people vote more
    aware: float = 0.0  # of feedback, up for the candidate and down for the active prompt
    accounts: int = 0  # that cast the aware votes
    silenced: float = 0.0  # of the candidate's low votes: never given

    @property
    def window_hours(self) -> int:
        """As an experiment at this rate would be opened with."""
        return window_hours_for(self.feedback_per_hour)

    @property
    def variance(self) -> float:
        """Of one score within its kind, the mean over the kinds."""
        return self.thumbs * self.thumbs_mean * (1 - self.thumbs_mean) + (1 - self.thumbs) * variance(self.rating_mean)


@dataclass(frozen=True, slots=True)
class Batch:
    """The units that arrive in one window. Rows of ``scores``: active, candidate, candidate after its win."""

    place: Floats  # of units with feedback, in [0, 1): the candidate's below its share
    other_places: Floats  # of units without
    guards: dict[str, Floats]  # of all units
    key: Floats  # orders units, knowing nothing
    thumbs: NDArray[np.bool_]
    scores: Floats
    rated_at: Floats  # hours, infinite for never; rows as in scores
    rater: NDArray[np.int64]  # -1: somebody who votes rarely


@cache
def distributions() -> Floats:
    """P(rating <= level) for the first four levels, a row per mean 0, .001, ..., 1."""
    means = np.linspace(0, 1, GRID + 1)[1:-1, None]
    low, high = np.full_like(means, -200.0), np.full_like(means, 200.0)
    for _ in range(80):
        tilt = (low + high) / 2
        weights = SHAPE * np.exp(tilt * (RATINGS - (tilt > 0)))
        weights /= weights.sum(axis=1, keepdims=True)
        above = (weights @ RATINGS)[:, None] > means
        low, high = np.where(above, low, tilt), np.where(above, tilt, high)
    return np.vstack([np.ones(4), weights.cumsum(axis=1)[:, :4], np.zeros(4)])


def variance(rating_mean: float) -> float:
    """Of a rating with that mean."""
    chances = np.diff(distributions()[round(rating_mean * GRID)], prepend=0, append=1)
    return float(chances @ (RATINGS - rating_mean) ** 2)


def drawn_ratings(means: Floats, draw: Floats) -> Floats:
    """Ratings with exactly these means: distributions of neighbouring means are mixed."""
    low = np.minimum((means * GRID).astype(np.int64), GRID - 1)
    part = (means * GRID - low)[:, None]
    steps = distributions()[low] * (1 - part) + distributions()[low + 1] * part
    return (draw[:, None] > steps).sum(axis=1) / 4.0


@dataclass(slots=True)
class Stream:
    """Batches of one run, in order; equal seeds give equal streams."""

    world: World
    seeds: tuple[int, ...]
    chance: np.random.Generator = field(init=False)
    users: Floats = field(init=False)  # their means, relative to everybody's
    habits: Floats = field(init=False)  # how much of the feedback each gives
    ready: list[Batch] = field(default_factory=list)
    drawn: int = 0  # windows

    def __post_init__(self) -> None:
        self.chance = np.random.default_rng(self.seeds)
        self.users = self.chance.normal(0, self.world.user_spread, self.world.users)
        habits = self.chance.lognormal(0, 1.2, self.world.users)
        self.habits = habits / habits.sum() if self.world.users else habits

    def window(self) -> Batch:
        """The next window's units."""
        if not self.ready:
            self.ready = self._draw()[::-1]
        return self.ready.pop()

    def _draw(self) -> list[Batch]:
        world, chance = self.world, self.chance
        hours = np.arange(self.drawn, self.drawn + CHUNK) * float(world.window_hours)
        self.drawn += CHUNK
        expected = np.full(CHUNK, world.feedback_per_hour * world.window_hours)
        expected[self._out(hours)] *= OUTAGE_VOTES
        with_votes = chance.poisson(expected)
        units = with_votes + chance.poisson(expected * (1 / world.feedback_rate - 1))
        arrived = np.repeat(hours, with_votes) + chance.random(with_votes.sum()) * world.window_hours
        guards = {name: (chance.random(units.sum()) < often).astype(float) for name, often in GUARD_RATES.items()}
        others = chance.random(units.sum() - with_votes.sum())
        whole = self._votes(arrived)
        votes, all_units = np.concatenate([[0], with_votes.cumsum()]), np.concatenate([[0], units.cumsum()])
        return [
            Batch(
                place=whole.place[votes[i] : votes[i + 1]],
                other_places=others[all_units[i] - votes[i] : all_units[i + 1] - votes[i + 1]],
                guards={name: values[all_units[i] : all_units[i + 1]] for name, values in guards.items()},
                key=whole.key[votes[i] : votes[i + 1]],
                thumbs=whole.thumbs[votes[i] : votes[i + 1]],
                scores=whole.scores[:, votes[i] : votes[i + 1]],
                rated_at=whole.rated_at[:, votes[i] : votes[i + 1]],
                rater=whole.rater[votes[i] : votes[i + 1]],
            )
            for i in range(CHUNK)
        ]

    def _votes(self, arrived: Floats) -> Batch:
        """Feedback of units that arrive at these hours."""
        world, chance, count = self.world, self.chance, len(arrived)
        thumbs = chance.random(count) < world.thumbs
        base = np.where(thumbs, world.thumbs_mean, world.rating_mean)
        base += world.drift * np.sin(arrived * (2 * np.pi / 24))
        if world.users:
            base += self.users[chance.choice(world.users, count, p=self.habits)]
        later = world.effect if world.effect_after_win is None else world.effect_after_win
        means = base + np.array([[0.0], [world.effect], [later]])
        means[:, self._out(arrived)] = np.maximum(base[self._out(arrived)] - OUTAGE_DROP, 0.05)
        means[:, chance.random(count) < world.bots] = 0.5
        means = np.clip(means, 0, 1)
        scores = self._scored(means, thumbs)
        rater = np.full(count, -1)
        if world.aware:
            aware = chance.random(count) < world.aware
            scores[:, aware] = np.array([[0.0], [1.0], [1.0]])
            rater[aware] = chance.integers(world.accounts, size=aware.sum()) if world.accounts else -1
        rated_at = arrived + chance.exponential(1.0, count) * (world.delay + world.delay_by_score * scores)
        if world.silenced:
            rated_at[1:][(scores[1:] < 0.5) & (chance.random(count) < world.silenced)] = np.inf
        if world.second_votes:
            scores = self._second(scores, rated_at, means, thumbs)
        return Batch(chance.random(count), np.empty(0), {}, chance.random(count), thumbs, scores, rated_at, rater)

    def _scored(self, means: Floats, thumbs: NDArray[np.bool_]) -> Floats:
        draw = self.chance.random(len(thumbs))
        return np.array([np.where(thumbs, draw >= 1 - row, drawn_ratings(row, draw)) for row in means])

    def _second(self, scores: Floats, rated_at: Floats, means: Floats, thumbs: NDArray[np.bool_]) -> Floats:
        """A unit counts once, by the mean of its votes when the window of the first closes; later ones are lost."""
        count, hours = len(thumbs), self.world.window_hours
        again = rated_at + self.chance.exponential(2.0, count)
        counts = (self.chance.random(count) < self.world.second_votes) & (again // hours == rated_at // hours)
        return np.where(counts, (scores + self._scored(means, thumbs)) / 2, scores)

    def _out(self, hours: Floats) -> NDArray[np.bool_]:
        start, end = self.world.outage or (0.0, 0.0)
        return (hours >= start) & (hours < end)
