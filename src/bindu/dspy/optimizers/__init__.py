"""The optimizers, equal siblings behind one small seam."""

from bindu.dspy.optimizers.base import Optimizer, Plan
from bindu.dspy.optimizers.gepa import GepaOptimizer
from bindu.dspy.optimizers.instance import InstanceOptimizer
from bindu.dspy.optimizers.miprov2 import MiproOptimizer
from bindu.dspy.optimizers.simba import SimbaOptimizer

__all__ = ["GepaOptimizer", "InstanceOptimizer", "MiproOptimizer", "Optimizer", "Plan", "SimbaOptimizer"]
