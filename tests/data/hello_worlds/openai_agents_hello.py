import asyncio

from agents import Agent, Runner, set_default_openai_api

set_default_openai_api("chat_completions")  # which every compatible server speaks
agent = Agent(
    name="Support",
    model="gpt-4o-mini",
    instructions="You are a friendly support agent of an online shop.",
)


async def main() -> None:
    result = await Runner.run(agent, "Where is my parcel?")
    print(result.final_output)


asyncio.run(main())
