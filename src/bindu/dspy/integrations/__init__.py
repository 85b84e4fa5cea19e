"""One object is the whole integration: ``instructions=prompt_handle("support", default="You are ...")``.

Importing it imports no framework; modules named after one need that one.
"""

from bindu.dspy.integrations.background import flush
from bindu.dspy.integrations.handle import PromptHandle, prompt_handle
from bindu.dspy.integrations.recorded import recorded, recorded_async
from bindu.dspy.integrations.turn import Turn, current_turn, last_task_id, turn

__all__ = [
    "PromptHandle",
    "Turn",
    "current_turn",
    "flush",
    "last_task_id",
    "prompt_handle",
    "recorded",
    "recorded_async",
    "turn",
]
