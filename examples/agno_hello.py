"""Agno."""

from agno.agent import Agent
from agno.models.openai import OpenAIChat

from bindu.dspy.integrations import prompt_handle, recorded  # bindu

agent = Agent(
    model=OpenAIChat(id="gpt-4o-mini"),
    instructions=prompt_handle("support", default="You are a friendly support agent of an online shop."),  # bindu
)

response = recorded(agent.run, "Where is my parcel?")  # bindu
print(response.content)
