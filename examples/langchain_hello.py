"""LangChain."""

from langchain.agents import create_agent

from bindu.dspy.integrations.langchain import dynamic_prompt, prompt_handle, recorded  # bindu

agent = create_agent(
    "openai:gpt-4o-mini",
    middleware=[dynamic_prompt(prompt_handle("support", default="You are a friendly support agent."))],  # bindu
)

result = recorded(agent.invoke, {"messages": [{"role": "user", "content": "Where is my parcel?"}]})  # bindu
print(result["messages"][-1].content)
