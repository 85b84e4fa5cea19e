"""Google ADK, with a model that speaks OpenAI's API."""

import asyncio

from google.adk.agents import LlmAgent
from google.adk.models.lite_llm import LiteLlm
from google.adk.runners import InMemoryRunner

from bindu.dspy.integrations import prompt_handle, recorded_async  # bindu

agent = LlmAgent(
    name="support",
    model=LiteLlm(model="openai/gpt-4o-mini"),
    instruction=prompt_handle("support", default="You are a friendly support agent of an online shop."),  # bindu
)


async def main() -> None:
    runner = InMemoryRunner(agent=agent)
    await recorded_async(runner.run_debug, "Where is my parcel?")  # bindu


asyncio.run(main())
