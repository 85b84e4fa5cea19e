"""DSPy."""

import dspy

from bindu.dspy.integrations.dspy import recorded, served  # bindu

dspy.configure(lm=dspy.LM("openai/gpt-4o-mini"))
support = dspy.Signature("question -> answer", "You are a friendly support agent of an online shop.")
program = served(dspy.Predict(support), "support")  # bindu

result = recorded(program, question="Where is my parcel?")  # bindu
print(result.answer)
