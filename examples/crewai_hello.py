"""CrewAI."""

from crewai import Agent, Crew, Task

from bindu.dspy.integrations.crewai import recorded, served_backstory  # bindu

support = Agent(
    role="Support agent",
    goal="Answer customers",
    backstory=served_backstory("support", default="You are a friendly support agent of an online shop."),  # bindu
    llm="openai/gpt-4o-mini",
)
answer = Task(description="{question}", expected_output="A short answer", agent=support)
crew = Crew(agents=[support], tasks=[answer])

result = recorded(crew.kickoff, inputs={"question": "Where is my parcel?"})  # bindu
print(result.raw)
