"""The OpenAI Agents SDK."""

import asyncio

from agents import Agent, Runner, set_default_openai_api

from bindu.dspy.integrations import prompt_handle, recorded_async  # bindu

set_default_openai_api("chat_completions")  # which every compatible server speaks
agent = Agent(
    name="Support",
    model="gpt-4o-mini",
    instructions=prompt_handle("support", default="You are a friendly support agent of an online shop."),  # bindu
)


async def main() -> None:
    result = await recorded_async(Runner.run, agent, "Where is my parcel?")  # bindu
    print(result.final_output)


asyncio.run(main())
