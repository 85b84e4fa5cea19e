"""The simulated support desk: customers talk to whichever prompt serves them, some of them say what they thought."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from bindu.dspy.collector import record_feedback, record_task
from bindu.dspy.errors import NoActivePromptError
from bindu.dspy.prompt_selector import select_prompt_with_canary
from bindu.dspy.simulation.draws import Draws
from bindu.dspy.simulation.engine import SimulatedEngine
from bindu.dspy.simulation.measure import measure
from bindu.dspy.simulation.model import Said
from bindu.dspy.simulation.questions import follow_up, question
from bindu.dspy.simulation.shop import SHOP
from bindu.dspy.simulation.users import SimulatedUsers, true_quality
from bindu.dspy.simulation.world import World
from bindu.settings import agent_or_default

__all__ = ["BAD_PROMPT", "IDEAL_PROMPT", "START_PROMPT", "Desk", "Visits"]

START_PROMPT: Final = SHOP.start_prompt
BAD_PROMPT: Final = SHOP.bad_prompt
IDEAL_PROMPT: Final = SHOP.ideal_prompt

_AT_ONCE = 8
_STAYS = 0.2  # how likely a customer asks another question
_MOST_TURNS = 3
_BETWEEN = timedelta(seconds=20)  # one customer and the next
_ANSWERING, _RATING = timedelta(seconds=40), timedelta(seconds=57)  # no two answers share a millisecond


@dataclass(slots=True)
class Visits:
    """What happened at the desk; ``qualities`` is what only the simulated users know, by prompt id."""

    conversations: int = 0
    tasks: int = 0
    rated: int = 0
    commented: int = 0
    qualities: dict[int, list[float]] = field(default_factory=dict)

    def quality(self, prompt_id: int) -> float | None:
        """Mean true quality, in [0, 1], of the answers given under a prompt; None before the first."""
        given = self.qualities.get(prompt_id)
        return sum(given) / len(given) if given else None


class Desk:
    """One agent of one world. Customers keep coming: each call of ``converse`` brings the next ones.

    The same seed brings the same customers with the same questions. ``engine`` is the simulated model for training.
    ``corrections``, ``hostile``, ``craving`` and ``sly`` are those of ``SimulatedUsers``.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        agent_id: str | None = None,
        world: World = SHOP,
        corrections: float = 0.0,
        hostile: float = 0.0,
        craving: str | None = None,
        sly: bool = False,
    ) -> None:
        self.seed = seed
        self.world = world
        self.agent_id = agent_or_default(agent_id)
        self.engine = SimulatedEngine(seed, world=world)
        self.visits = Visits()
        self._users = SimulatedUsers(
            seed, world=world, corrections=corrections, hostile=hostile, craving=craving, sly=sly
        )

    def measure(self, prompt: str, n: int = 400) -> float:
        """Mean true quality of a prompt on ``n`` held-out questions; leaves no trace."""
        return measure(prompt, n, seed=self.seed, world=self.world)

    async def converse(self, n: int, *, now: datetime) -> Visits:
        """Let the next ``n`` customers talk to the agent, one every 20 s from ``now`` on; returns the totals so far.

        One in five asks more than one question, each its own task of the same conversation. Raises what selecting
        and recording raise, NoActivePromptError before bootstrap.
        """
        gate = asyncio.Semaphore(_AT_ONCE)
        first = self.visits.conversations
        self.visits.conversations += n

        async def visit(place: int) -> None:
            async with gate:
                await self._visit(first + place, now + place * _BETWEEN)

        try:
            async with asyncio.TaskGroup() as group:
                for place in range(n):
                    group.create_task(visit(place))
        except ExceptionGroup as failed:  # one reason is enough, the others are the same
            raise failed.exceptions[0] from failed
        return self.visits

    async def _visit(self, index: int, at: datetime) -> None:
        draw = Draws("visit", self.seed, index)
        context, rater = f"simulated-{self.seed}-{index}", int(draw.uniform(0, 1_000_000))
        said: list[Said] = []
        for turn in range(_MOST_TURNS):
            said.append(("user", self._question(index, turn)))
            said.append(("assistant", await self._exchange(said, context, rater, at)))
            at += _ANSWERING + _RATING
            if not draw.chance(_STAYS):
                break

    def _question(self, index: int, turn: int) -> str:
        if turn == 0:
            return question(index, seed=self.seed, world=self.world)
        return follow_up(index, turn, seed=self.seed, world=self.world)

    async def _exchange(self, said: Sequence[Said], context: str, rater: int, at: datetime) -> str:
        prompt = await select_prompt_with_canary(unit_id=context, agent_id=self.agent_id)
        if prompt is None:
            raise NoActivePromptError(self.agent_id)
        asked = said[-1][1]
        answer = self.engine.model.reply(prompt["prompt_text"], said)
        answered = at + _ANSWERING
        task_id = await record_task(
            [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}],
            prompt=prompt,
            unit_id=context,
            context_id=context,
            agent_id=self.agent_id,
            now=answered,
        )
        self.visits.tasks += 1
        self.visits.qualities.setdefault(prompt["id"], []).append(true_quality(asked, answer, self.world))
        reaction = self._users.react(asked, answer, occasion=f"{context} {len(said)}", rater=rater)
        if reaction is not None:
            given, who = reaction.feedback, reaction.rater_id
            await record_feedback(task_id, given, rater_id=who, agent_id=self.agent_id, now=answered + _RATING)
            self.visits.rated += 1
            self.visits.commented += "comment" in given
        return answer
