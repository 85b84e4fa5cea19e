"""What arrives is put into windows once, and it does not matter how often somebody looks."""

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bindu.dspy.evidence import Evidence, Window, fold
from bindu.dspy.models import FeedbackKind
from bindu.dspy.policy import Policy
from bindu.dspy.units import Arrivals, CountedUnit, FirstRequest, RatedUnit, TimedVote
from bindu.dspy.windows import Closed, close, end_of, is_edited, last_closed, score_of, windows_of, without_heaviest

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SHARES = {0: 0.1, 1: 0.3, 2: 0.5}
POLICY = Policy(window_hours=1, slow_ms=900.0, cost_cap=0.02, judged=True)
HOURS = 30  # in which units come
END = 70  # the window after which nothing is expected any more


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def vote(
    hours: float, score: float = 1.0, *, kind: FeedbackKind = "rating", rater: str = "", task: int = 0
) -> TimedVote:
    return TimedVote(task_id=UUID(int=task), rater_id=rater, kind=kind, score=score, at=at(hours))


@dataclass(frozen=True)
class Visit:
    """A unit as the world knows it: its first request and every vote it will ever get."""

    first: FirstRequest
    votes: tuple[TimedVote, ...] = ()


def visit(unit: str, *votes: TimedVote, hours: float = 0.0, arm: str = "candidate", epoch: int = 0) -> Visit:
    return Visit(FirstRequest(unit_id=unit, arm=arm, epoch=epoch, first_at=at(hours)), votes)  # type: ignore[arg-type]


@dataclass
class World:
    """What storage would hand out: what came up to a time and was not taken in yet."""

    visits: Iterable[Visit]
    shares: dict[int, float] = field(default_factory=lambda: dict(SHARES))
    policy: Policy = POLICY
    closed_window: int = 0
    evidence: Evidence = field(default_factory=Evidence)
    taken: dict[str, int] = field(default_factory=dict)
    counted: dict[str, CountedUnit] = field(default_factory=dict)

    def arrivals(self, until: datetime) -> Arrivals:
        rated, firsts = [], []
        for one in self.visits:
            unit = one.first
            if unit.first_at > until:
                continue
            if unit.unit_id not in self.taken:
                firsts.append(unit)
            first_vote = min((vote.at for vote in one.votes), default=until + timedelta(1))
            if first_vote <= until and unit.unit_id not in self.counted:
                rated.append(
                    RatedUnit(
                        unit_id=unit.unit_id,
                        arm=unit.arm,
                        epoch=unit.epoch,
                        first_at=unit.first_at,
                        rated_at=first_vote,
                        votes=tuple(sorted(one.votes, key=lambda vote: vote.at)),
                    )
                )
        latest: dict[str, datetime] = {}
        for done in self.counted.values():
            if done.rater_id and done.score is not None:
                latest[done.rater_id] = max(done.rated_at, latest.get(done.rater_id, done.rated_at))
        return Arrivals(firsts=tuple(firsts), rated=tuple(rated), last_counted=latest)

    def close(self, through: int) -> Closed:
        """Close all windows up to one, as the controller does."""
        until = end_of(self.policy, START, through)
        closed = close(
            self.arrivals(until), self.shares, self.policy, started_at=START, after=self.closed_window, through=through
        )
        for window in closed.windows:
            assert self.closed_window < window.number <= through
            self.evidence = fold(self.evidence, window, self.policy, with_band=False)
        if self.evidence.window < through:
            self.evidence = fold(self.evidence, Window(through), self.policy, with_band=False)
        for unit_id, window_number in closed.firsts:
            assert unit_id not in self.taken
            self.taken[unit_id] = window_number
        for unit in closed.counted:
            assert unit.unit_id not in self.counted
            self.counted[unit.unit_id] = unit
        self.closed_window = through
        return closed


minutes = st.one_of(st.integers(0, HOURS * 60), st.integers(0, HOURS).map(lambda hour: hour * 60))  # often on an edge
moments = minutes.map(lambda minute: minute / 60)
kinds: st.SearchStrategy[FeedbackKind] = st.sampled_from(("rating", "thumbs_up"))
raters = st.sampled_from(("", "", "ann", "bob", "cy"))


@st.composite
def some_votes(draw: st.DrawFn, first: float) -> tuple[TimedVote, ...]:
    """Up to four votes: mostly after the first request, edits and other raters among them."""
    given = []
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(kinds)
        score = draw(st.sampled_from((0.2, 0.4, 0.6, 0.8, 1.0) if kind == "rating" else (0.0, 1.0)))
        delay = draw(st.sampled_from((0.0, 0.0, 0.1, 1.0, 5.0, 30.0, -0.5, -20.0)))
        given.append(vote(first + delay, score, kind=kind, rater=draw(raters), task=draw(st.integers(0, 1))))
    return tuple(given)


@st.composite
def visits(draw: st.DrawFn) -> list[Visit]:
    found = []
    for number in range(draw(st.integers(0, 14))):
        hours = draw(moments) - draw(st.sampled_from((0.0, 0.0, 0.0, 3.0)))  # some before the experiment began
        first = FirstRequest(
            unit_id=f"unit {number}",
            arm=draw(st.sampled_from(("active", "candidate"))),
            epoch=draw(st.sampled_from((0, 1, 2, 2, 9))),  # 9 never was
            first_at=at(hours),
            failed=draw(st.booleans()),
            refused=draw(st.booleans()),
            latency_ms=draw(st.sampled_from((None, 100.0, 900.0, 2000.0))),
            cost=draw(st.sampled_from((None, 0.0, 0.01, 1.0))),
            judged=draw(st.sampled_from((None, 0.0, 0.7))),
        )
        found.append(Visit(first, draw(some_votes(hours))))
    return found


looks = st.lists(st.integers(1, END), max_size=12).map(lambda numbers: sorted({*numbers, END}))


@settings(max_examples=150, deadline=None)
@given(visits(), looks, st.randoms(use_true_random=False))
def test_looking_hourly_now_and_then_or_once_gives_the_same_evidence(
    visited: list[Visit], now_and_then: list[int], chance: random.Random
) -> None:
    hourly, rarely, once = World(visited), World(visited), World(chance.sample(visited, len(visited)))
    for window in range(1, END + 1):
        hourly.close(window)
    for window in now_and_then:
        rarely.close(window)
    once.close(END)
    assert once.evidence == rarely.evidence == hourly.evidence
    assert once.counted == rarely.counted == hourly.counted
    assert once.taken == rarely.taken == hourly.taken


@settings(max_examples=100, deadline=None)
@given(visits(), looks)
def test_what_the_log_holds_gives_the_evidence_again_to_the_bit(visited: list[Visit], times: list[int]) -> None:
    world = World(visited)
    for window in times:
        world.close(window)
    known = {one.first.unit_id: one.first for one in visited}
    firsts = [replace(known[unit_id], window=window) for unit_id, window in world.taken.items()]
    held = {one.number: one for one in windows_of(firsts, world.counted.values(), SHARES, POLICY)}
    again = Evidence()
    for number in sorted({*held, *times}):
        again = fold(again, held.get(number, Window(number)), POLICY, with_band=False)
    assert again == world.evidence


@settings(max_examples=100, deadline=None)
@given(visits(), looks)
def test_every_unit_is_taken_in_once_and_counted_once(visited: list[Visit], times: list[int]) -> None:
    world = World(visited)
    windows = [window for through in times for window in world.close(through).windows]
    known = [one for one in visited if one.first.epoch in SHARES]  # an epoch that has not begun waits for ever
    assert set(world.taken) == {one.first.unit_id for one in known}
    assert set(world.counted) == {one.first.unit_id for one in known if one.votes}
    valid = [one for one in world.counted.values() if one.score is not None]
    in_strata: Counter[tuple[int, str, int, str]] = Counter()
    for window in windows:
        for stratum in window.scores:
            in_strata[window.number, stratum.kind, stratum.epoch, "active"] += len(stratum.active)
            in_strata[window.number, stratum.kind, stratum.epoch, "candidate"] += len(stratum.candidate)
    assert +in_strata == Counter((one.window, one.kind, one.epoch, one.arm) for one in valid)
    assert sum(share.active + share.candidate for share in world.evidence.shares) == len(known)
    assert [window.number for window in windows] == sorted({window.number for window in windows})


@settings(max_examples=100, deadline=None)
@given(visits(), st.integers(1, HOURS), st.integers(0, 14))
def test_what_arrives_late_goes_into_the_first_open_window(visited: list[Visit], closed: int, late: int) -> None:
    punctual, held_back = visited[late:], visited[:late]
    world = World(punctual)
    world.close(closed)
    before = world.evidence, dict(world.counted), dict(world.taken)
    world.visits = [*punctual, *held_back]
    world.close(END)
    assert {unit: world.counted[unit] for unit in before[1]} == before[1]
    assert {unit: world.taken[unit] for unit in before[2]} == before[2]
    for one in held_back:
        if one.first.epoch not in SHARES:
            continue
        own = last_closed(POLICY, START, one.first.first_at - timedelta(microseconds=1)) + 1
        assert world.taken[one.first.unit_id] == max(own, closed + 1)
        if one.votes:
            assert world.counted[one.first.unit_id].window > closed


@settings(max_examples=100, deadline=None)
@given(visits(), looks, st.integers(0, 14), st.integers(1, HOURS))
def test_no_two_units_of_a_rater_within_a_day_count_not_even_late_ones(
    visited: list[Visit], times: list[int], late: int, closed: int
) -> None:
    world = World(visited[late:])
    world.close(closed)
    world.visits = visited
    for window in times:
        if window > closed:
            world.close(window)
    rated: dict[str, list[datetime]] = {}
    for unit in world.counted.values():
        if unit.rater_id and unit.score is not None:
            rated.setdefault(unit.rater_id, []).append(unit.rated_at)
    for moments_of_one in rated.values():
        ordered = sorted(moments_of_one)
        assert all(later - earlier >= timedelta(hours=24) for earlier, later in pairwise(ordered))


# one rule at a time


def counted(*visited: Visit, through: int = 200) -> dict[str, CountedUnit]:
    world = World(visited)
    world.close(through)
    return world.counted


def test_a_unit_counts_the_mean_over_its_tasks_of_the_first_rater_s_latest_votes() -> None:
    found = counted(
        visit(
            "talk",
            vote(1.1, 0.2, rater="ann"),
            vote(1.2, 1.0, rater="ann"),  # ann thought better of it
            vote(1.3, 0.6, rater="ann", task=1),
            vote(1.4, 0.2, rater="bob"),
        )
    )["talk"]
    assert found.score == pytest.approx((1.0 + 0.5) / 2)
    assert (found.window, found.rater_id, found.rated_at) == (2, "ann", at(1.1))


def test_who_votes_second_in_many_conversations_decides_none_of_them() -> None:
    talks = [
        visit(f"talk {n}", vote(1.1 + n / 10, 1.0, rater=f"user {n}"), vote(1.11 + n / 10, 0.2, rater="evil"))
        for n in range(5)
    ]
    assert {(unit.rater_id, unit.score) for unit in counted(*talks).values()} == {(f"user {n}", 1.0) for n in range(5)}


def test_who_votes_first_in_many_conversations_keeps_none_of_them_from_counting() -> None:
    talks = [
        visit(f"talk {n}", vote(1.1 + n / 10, 0.2, rater="evil"), vote(1.11 + n / 10, 1.0, rater=f"user {n}"))
        for n in range(5)
    ]
    found = counted(*talks)
    assert [found[f"talk {n}"].rater_id for n in range(5)] == ["evil", *(f"user {n}" for n in range(1, 5))]
    assert [found[f"talk {n}"].score for n in range(5)] == [0.0, 1.0, 1.0, 1.0, 1.0]


def test_votes_after_its_window_s_end_do_not_change_a_unit() -> None:
    talk = visit("talk", vote(1.5, 0.2), vote(2.0, 0.6, task=1), vote(2.0001, 1.0))
    assert counted(talk)["talk"].score == counted(talk, through=2)["talk"].score == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("stored", "score"), [(0.2, 0.0), (0.4, 0.25), (0.6, 0.5), (0.8, 0.75), (1.0, 1.0), (0.0, 0.0)]
)
def test_ratings_span_all_of_the_scale(stored: float, score: float) -> None:
    assert score_of(vote(0, stored)) == pytest.approx(score)


@given(st.floats(0, 1), kinds)
def test_a_score_is_a_score_and_keeps_the_order(stored: float, kind: FeedbackKind) -> None:
    assert 0 <= score_of(vote(0, stored, kind=kind)) <= score_of(vote(0, 1.0, kind=kind)) == 1
    if kind == "thumbs_up":
        assert score_of(vote(0, stored, kind=kind)) == stored


def test_a_unit_keeps_the_kind_of_its_first_vote() -> None:
    thumbs_first = visit("one", vote(1.1, 0.0, kind="thumbs_up"), vote(1.2, 1.0, rater="bob"), vote(1.3, 1.0))
    assert (counted(thumbs_first)["one"].kind, counted(thumbs_first)["one"].score) == ("thumbs_up", 0.0)
    rating_first = visit("one", vote(1.1, 0.2), vote(1.2, 1.0, kind="thumbs_up", rater="bob"))
    assert (counted(rating_first)["one"].kind, counted(rating_first)["one"].score) == ("rating", 0.0)


@pytest.mark.parametrize("first", [0, 1])
def test_of_a_rating_and_a_thumb_at_the_same_moment_the_rating_counts(first: int) -> None:
    both = [vote(1.1, 0.6, rater="ann"), vote(1.1, 1.0, kind="thumbs_up", rater="bob")]
    found = counted(visit("one", both[first], both[1 - first]))["one"]
    assert (found.kind, found.rater_id, found.score) == ("rating", "ann", pytest.approx(0.5))


@pytest.mark.parametrize(("gap", "counts"), [(0.0, False), (1.0, False), (23.99, False), (24.0, True), (30.0, True)])
def test_a_rater_s_next_unit_counts_after_a_day(gap: float, counts: bool) -> None:
    visited = (
        visit("one", vote(3, rater="ann"), hours=3),
        visit("two", vote(3 + gap, rater="ann"), hours=3),
        visit("other", vote(3 + gap, rater="bob"), hours=3),
    )
    for world in (World(visited), World(visited)):
        for through in (100,) if world.closed_window else (3, 5, 26, 100):
            world.close(through)
        assert world.counted["one"].score is not None
        assert (world.counted["two"].score is not None) is counts
        assert world.counted["other"].score is not None


def test_without_a_rest_every_conversation_of_a_rater_counts() -> None:
    same_moment = [visit(f"{number}", vote(3, rater="ann"), hours=3) for number in range(3)]
    world = World((*same_moment, visit("later", vote(3.1, 0.2, rater="ann"), hours=3)))
    world.policy = replace(POLICY, rater_hours=0)
    for through in (3, 5, 30):
        world.close(through)
    assert {unit: found.score for unit, found in world.counted.items()} == {"0": 1, "1": 1, "2": 1, "later": 0}


@settings(max_examples=60, deadline=None)
@given(visits(), st.lists(st.integers(1, END), max_size=5).map(sorted))
def test_without_a_rest_whoever_votes_first_speaks_for_a_unit_and_it_counts(
    visited: list[Visit], times: list[int]
) -> None:
    world = World(visited, policy=replace(POLICY, rater_hours=0))
    for through in (*times, END):
        if through > world.closed_window:
            world.close(through)
    votes = {one.first.unit_id: one.votes for one in visited}
    for unit in world.counted.values():
        assert unit.score is not None
        assert unit.rated_at == min(vote.at for vote in votes[unit.unit_id])


@pytest.mark.parametrize(
    ("later", "edited"),
    [
        ([], False),
        ([vote(9, 0.2, rater="ann")], True),
        ([vote(9, 1.0, rater="ann")], False),  # said again
        ([vote(9, 0.0, rater="ann", kind="thumbs_up")], False),  # of the kind that did not count
        ([vote(9, 0.2, rater="bob")], False),
        ([vote(9, 0.2, rater="ann", task=1)], True),
    ],
)
def test_a_unit_is_edited_when_who_spoke_for_it_says_something_else_since(later: list[TimedVote], edited: bool) -> None:
    said = vote(1.1, 1.0, rater="ann")
    unit = counted(visit("talk", said))["talk"]
    assert is_edited(unit, [said, *later]) is edited
    assert is_edited(unit, later[:0])  # deleted
    assert not is_edited(replace(unit, score=None), later)


@settings(max_examples=60, deadline=None)
@given(visits())
def test_no_unit_is_edited_by_the_votes_that_it_was_counted_with(visited: list[Visit]) -> None:
    votes = {one.first.unit_id: one.votes for one in visited}
    for unit_id, unit in counted(*visited).items():
        window_end = end_of(POLICY, START, unit.window)
        by_then = [vote for vote in votes[unit_id] if vote.at <= window_end]
        assert not is_edited(unit, sorted(by_then, key=lambda vote: vote.at))


def test_a_unit_that_did_not_count_does_not_keep_its_rater_waiting() -> None:
    found = counted(*(visit(f"{hour:02}", vote(hour, rater="ann"), hours=hour) for hour in range(1, 60)))
    assert [unit for unit in sorted(found) if found[unit].score is not None] == ["01", "25", "49"]


def test_anonymous_units_all_count() -> None:
    found = counted(*(visit(f"{minute}", vote(1 + minute / 60), hours=1) for minute in range(50)))
    assert all(unit.score is not None for unit in found.values())


def test_a_vote_dated_before_its_task_counts_when_the_task_is_there() -> None:
    found = counted(visit("back from the future", vote(2, rater="ann"), hours=30))["back from the future"]
    assert (found.window, found.rated_at, found.score) == (30, at(2), 1.0)


def test_a_rater_s_old_votes_that_come_in_together_count_once() -> None:
    """However they are dated: a queue that was held back, or somebody who sets the clock."""
    world = World([visit("now", vote(50, rater="ann"), hours=50)])
    world.close(50)
    backlog = [visit(f"old {hour}", vote(hour, rater="ann"), hours=1) for hour in range(1, 26)]
    world.visits = [*world.visits, *backlog[:12]]
    world.close(51)
    world.visits = [*world.visits, *backlog[12:], visit("next", vote(51.5, rater="ann"), hours=51)]
    world.close(52)
    assert [unit for unit, found in world.counted.items() if found.score is not None] == ["now"]


def test_arm_and_epoch_are_those_of_the_unit_s_first_request() -> None:
    old = visit("old", vote(70), hours=0.5, arm="active", epoch=0)
    new = visit("new", vote(70), hours=69.5, arm="candidate", epoch=2)
    world = World([old, new])
    [*_, last] = world.close(80).windows
    assert [(one.epoch, len(one.active), len(one.candidate)) for one in last.scores] == [(0, 1, 0), (2, 0, 1)]
    assert [(one.epoch, one.active, one.candidate) for one in world.evidence.shares] == [(0, 1, 0), (2, 0, 1)]


def test_kinds_and_epochs_are_never_pooled() -> None:
    visited = [
        visit(f"{kind} {epoch} {arm}", vote(1, kind=kind), hours=1, arm=arm, epoch=epoch)
        for kind in ("rating", "thumbs_up")
        for epoch in SHARES
        for arm in ("active", "candidate")
    ]
    [window] = World(visited).close(1).windows
    assert {(one.kind, one.epoch, len(one.active), len(one.candidate)) for one in window.scores} == {
        (kind, epoch, 1, 1) for kind in ("rating", "thumbs_up") for epoch in SHARES
    }


def test_a_guardrail_sees_only_what_was_recorded_and_is_watched() -> None:
    first = FirstRequest(unit_id="a", arm="candidate", epoch=0, first_at=at(0.5), failed=True, cost=0.005, judged=0.75)
    seen = {one.kind: one.candidate for one in World([Visit(first)]).close(1).windows[0].firsts}
    assert seen == {"error": (1.0,), "refusal": (0.0,), "cost": (0.25,), "judge": (0.25,)}
    unwatched = World([Visit(replace(first, latency_ms=9e9))], policy=Policy()).close(1).windows[0].firsts
    assert {one.kind for one in unwatched} == {"error", "refusal"}


def test_windows_in_which_nothing_happened_are_not_there_and_only_move_the_number() -> None:
    world = World([visit("one", vote(1), hours=1)])
    assert [window.number for window in world.close(100).windows] == [1]
    before = world.evidence
    assert world.close(140) == Closed(windows=(), firsts=(), counted=())
    assert world.evidence == replace(before, window=140)


@pytest.mark.parametrize("hours", [1, 3, 24])
def test_a_window_holds_its_end_and_not_its_beginning(hours: int) -> None:
    policy = replace(POLICY, window_hours=hours)
    moment = timedelta(microseconds=1)
    for number in (1, 2, 999):
        end = end_of(policy, START, number)
        assert end == START + timedelta(hours=hours * number)
        assert [last_closed(policy, START, when) for when in (end - moment, end)] == [number - 1, number]
        edge = FirstRequest(unit_id="at the end", arm="active", epoch=0, first_at=end)
        after = replace(edge, unit_id="just after", first_at=end + moment)
        closed = close(Arrivals(firsts=(edge, after)), SHARES, policy, started_at=START, after=0, through=number + 1)
        assert dict(closed.firsts) == {"at the end": number, "just after": number + 1}
    assert last_closed(policy, START, START - timedelta(days=40)) == 0


@given(st.permutations([f"unit {number}" for number in range(12)]))
def test_the_order_in_a_stratum_is_of_the_unit_ids_alone(ids: list[str]) -> None:
    visited = [
        visit(unit, vote(1, (int(unit[5:]) % 5 + 1) / 5), hours=1, arm="active" if int(unit[5:]) % 2 else "candidate")
        for unit in ids
    ]
    ordered = World(sorted(visited, key=lambda one: one.first.unit_id)).close(1)
    assert World(visited).close(1).windows == ordered.windows
    [stratum] = ordered.windows[0].scores
    assert stratum.active != tuple(sorted(stratum.active))


# without the heaviest


def unit(number: int, arm: str, score: float | None, rater: str, window: int = 1) -> CountedUnit:
    return CountedUnit(
        unit_id=f"unit {number}",
        arm=arm,  # type: ignore[arg-type]
        epoch=0,
        window=window,
        kind="thumbs_up",
        rater_id=rater,
        rated_at=at(window),
        score=score,
    )


def test_without_the_heaviest_rater_a_difference_can_vanish() -> None:
    fans = [unit(number, "candidate", 1.0, "fan", number + 1) for number in range(5)]
    others = [
        unit(number, ("active", "candidate")[number % 2], 0.0, f"user {number}", 1 + number % 5)
        for number in range(5, 15)
    ]
    assert without_heaviest([*fans, *others], SHARES, POLICY) == 0
    assert without_heaviest(others, SHARES, POLICY) is None  # nobody counts twice
    assert without_heaviest(fans, SHARES, POLICY) is None  # nothing is left


def test_the_anonymous_are_nobody_s_heaviest_rater_and_uncounted_units_weigh_nothing() -> None:
    anonymous = [unit(number, ("active", "candidate")[number % 2], 1.0, "") for number in range(9)]
    assert without_heaviest(anonymous, SHARES, POLICY) is None
    resting = [unit(number + 20, "candidate", None, "ann") for number in range(9)]
    assert without_heaviest([*anonymous, *resting], SHARES, POLICY) is None


def test_of_two_equally_heavy_raters_always_the_same_one_is_left_out() -> None:
    units = [
        unit(number, ("active", "candidate")[number % 2], number / 10, "ab"[number % 4 // 2]) for number in range(8)
    ]
    others = [unit(number, ("active", "candidate")[number % 2], 0.5, "") for number in range(20, 40)]
    found = {without_heaviest(random.Random(seed).sample(units + others, 28), SHARES, POLICY) for seed in range(9)}
    assert len(found) == 1
