"""Pydantic AI."""

from pydantic_ai import Agent

from bindu.dspy.integrations import prompt_handle, recorded  # bindu

agent = Agent(
    "openai-chat:gpt-4o-mini",
    instructions=prompt_handle("support", default="You are a friendly support agent of an online shop."),  # bindu
)

result = recorded(agent.run_sync, "Where is my parcel?")  # bindu
print(result.output)
