"""What ``bindu doctor`` looks at: each check says how it is and what to do."""

from bindu.dspy.cli.checkup.examining import examine
from bindu.dspy.cli.checkup.finding import Finding, State

__all__ = ["Finding", "State", "examine"]
