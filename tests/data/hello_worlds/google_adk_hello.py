import asyncio

from google.adk.agents import LlmAgent
from google.adk.models.lite_llm import LiteLlm
from google.adk.runners import InMemoryRunner

agent = LlmAgent(
    name="support",
    model=LiteLlm(model="openai/gpt-4o-mini"),
    instruction="You are a friendly support agent of an online shop.",
)


async def main() -> None:
    runner = InMemoryRunner(agent=agent)
    await runner.run_debug("Where is my parcel?")


asyncio.run(main())
