from openai import OpenAI
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.track import TrackingEventDetails

flags = api.get_client()


def answer(question: str, conversation: EvaluationContext) -> str:
    prompt = flags.get_string_value("support", "You are a friendly support agent of an online shop.", conversation)
    messages = [{"role": "system", "content": prompt}, {"role": "user", "content": question}]
    return OpenAI().chat.completions.create(model="gpt-4o-mini", messages=messages).choices[0].message.content or ""


conversation = EvaluationContext(targeting_key="conversation-1")
print(answer("Where is my parcel?", conversation))
flags.track("feedback", conversation, TrackingEventDetails(attributes={"thumbs_up": True}))
