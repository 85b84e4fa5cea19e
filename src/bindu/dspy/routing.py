"""A unit id and shares become one arm, the same one on every replica.

A unit's place on the line [0, 2^64) is a hash keyed by the experiment, so raising the share never moves a unit
that already sees the candidate, and the arms of two experiments are independent.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

from bindu.dspy.models import Arm, Serving

__all__ = ["LINE", "arm_of", "salt_of", "select"]

LINE = 2.0**64
_number = int.from_bytes  # looked up once rather than for each request
MOST_PINS = 10_000
LONGEST_PIN = 256  # characters: an id of any length has an arm, but does not stay in memory


@lru_cache(maxsize=1024)
def salt_of(agent_id: str, experiment_id: int | None, use: bytes = b"") -> blake2b:
    """The keyed hash that makes one experiment's assignment independent of every other's, and of other uses of it.

    It is copied for each unit: that costs a third less than keying a new one.
    """
    key = blake2b(f"{agent_id}\0{experiment_id}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return blake2b(digest_size=8, key=key, person=use)


def arm_of(unit_id: str, salt: blake2b, share: float) -> Arm:
    """Assign a unit: candidate iff the first 64 bits of its keyed hash are below ``share`` (in [0, 1]) of the line."""
    place = salt.copy()
    try:
        place.update(unit_id.encode())
    except UnicodeEncodeError:  # a lone surrogate; asking for it each time would cost everybody 40 ns
        place.update(unit_id.encode("utf-8", "surrogatepass"))
    return "candidate" if _number(place.digest()) < share * LINE else "active"


def select(serving: Serving, unit_id: str | None, draw: float, pins: dict[str, Arm] | None = None) -> Arm:
    """Choose between the live prompts; ``draw`` in [0, 1) decides for a call without a unit.

    ``pins`` remembers the arms of units seen before, 10,000 at most, and saves most of the time. It is good for one
    ``serving`` only: whoever takes another one begins with an empty dictionary, and so moves everybody at once.
    """
    if serving.candidate is None:
        return "active"
    if unit_id is None:
        return "candidate" if draw < serving.share else "active"
    arm = None if pins is None else pins.get(unit_id)
    if arm is None:
        arm = arm_of(unit_id, salt_of(serving.agent_id, serving.experiment_id), serving.share)
        if pins is not None and len(unit_id) <= LONGEST_PIN:
            if len(pins) >= MOST_PINS:
                pins.clear()
            pins[unit_id] = arm
    return arm
