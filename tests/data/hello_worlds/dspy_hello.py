import dspy

dspy.configure(lm=dspy.LM("openai/gpt-4o-mini"))
support = dspy.Signature("question -> answer", "You are a friendly support agent of an online shop.")
program = dspy.Predict(support)

result = program(question="Where is my parcel?")
print(result.answer)
