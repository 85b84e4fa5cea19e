from pydantic_ai import Agent

agent = Agent(
    "openai-chat:gpt-4o-mini",
    instructions="You are a friendly support agent of an online shop.",
)

result = agent.run_sync("Where is my parcel?")
print(result.output)
