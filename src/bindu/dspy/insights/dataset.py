"""What training would learn from, with some of it to look at."""

from __future__ import annotations

from dataclasses import dataclass

from bindu.dspy.dataset import build_dataset
from bindu.dspy.models import Funnel, Interaction
from bindu.settings import app_settings

__all__ = ["DatasetPreview", "dataset_preview"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetPreview:
    """The account of all tasks, and the newest examples of either kind."""

    strategy: str
    funnel: Funnel
    golden: tuple[Interaction, ...]
    failures: tuple[Interaction, ...]


async def dataset_preview(
    agent_id: str | None = None,
    *,
    strategy: str = "last_turn",
    require_feedback: bool = True,
    limit: int | None = None,
    samples: int = 5,
) -> DatasetPreview:
    """Build the golden dataset as training would, and keep ``samples`` of each kind. Errors are ``build_dataset``'s."""
    found = await build_dataset(
        limit, strategy, require_feedback, app_settings.dspy.min_feedback_threshold, agent_id=agent_id
    )
    return DatasetPreview(
        strategy=strategy,
        funnel=found.funnel,
        golden=tuple(found.golden[:samples]),
        failures=tuple(found.failures[:samples]),
    )
