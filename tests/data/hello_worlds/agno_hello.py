from agno.agent import Agent
from agno.models.openai import OpenAIChat

agent = Agent(
    model=OpenAIChat(id="gpt-4o-mini"),
    instructions="You are a friendly support agent of an online shop.",
)

response = agent.run("Where is my parcel?")
print(response.content)
