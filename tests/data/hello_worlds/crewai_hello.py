from crewai import Agent, Crew, Task

support = Agent(
    role="Support agent",
    goal="Answer customers",
    backstory="You are a friendly support agent of an online shop.",
    llm="openai/gpt-4o-mini",
)
answer = Task(description="{question}", expected_output="A short answer", agent=support)
crew = Crew(agents=[support], tasks=[answer])

result = crew.kickoff(inputs={"question": "Where is my parcel?"})
print(result.raw)
