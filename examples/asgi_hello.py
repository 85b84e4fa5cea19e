"""Any ASGI application, here Starlette's, with OpenAI's own client: ``uvicorn asgi_hello:app``.

curl -i -H 'X-Conversation-Id: 1' 'http://127.0.0.1:8000/?question=Where+is+my+parcel'
"""

from openai import AsyncOpenAI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from bindu.dspy.integrations.asgi import TurnMiddleware, prompt_handle, recorded_async  # bindu

prompt = prompt_handle("support", default="You are a friendly support agent of an online shop.")  # bindu


async def answer(question: str) -> str:
    messages = [{"role": "system", "content": prompt()}, {"role": "user", "content": question}]  # bindu
    answered = await AsyncOpenAI().chat.completions.create(model="gpt-4o-mini", messages=messages)
    return answered.choices[0].message.content or ""


async def home(request: Request) -> PlainTextResponse:
    return PlainTextResponse(await recorded_async(answer, request.query_params["question"]))  # bindu


app = TurnMiddleware(Starlette(routes=[Route("/", home)]))  # bindu
