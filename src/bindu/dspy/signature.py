"""What the agent does, as DSPy sees it: text in, text out, under the prompt's instructions."""

import dspy

__all__ = ["AgentSignature"]


class AgentSignature(dspy.Signature):
    """Answer the user."""

    input: str = dspy.InputField()
    output: str = dspy.OutputField()
