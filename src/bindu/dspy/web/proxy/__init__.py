"""The OpenAI-compatible proxy."""

from bindu.dspy.web.proxy.routes import Proxy

__all__ = ["Proxy"]
