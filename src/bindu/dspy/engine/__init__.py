"""The way to the models: one door that counts, prices, caps, retries, remembers and logs every call."""

from bindu.dspy.engine.counting import CountingEngine
from bindu.dspy.engine.provider import InnerEngine

__all__ = ["CountingEngine", "InnerEngine"]
