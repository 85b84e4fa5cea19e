from langchain.agents import create_agent

agent = create_agent(
    "openai:gpt-4o-mini",
    system_prompt="You are a friendly support agent.",
)

result = agent.invoke({"messages": [{"role": "user", "content": "Where is my parcel?"}]})
print(result["messages"][-1].content)
