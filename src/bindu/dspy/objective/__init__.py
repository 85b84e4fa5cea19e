"""What "better" means when all we have is clicks and comments."""

from bindu.dspy.objective.base import OBJECTIVES, Metric, Objective, ObjectiveName, PythonMetric, TrustedObjective

__all__ = ["OBJECTIVES", "Metric", "Objective", "ObjectiveName", "PythonMetric", "TrustedObjective"]
