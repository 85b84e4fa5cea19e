from openai import AsyncOpenAI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

prompt = "You are a friendly support agent of an online shop."


async def answer(question: str) -> str:
    messages = [{"role": "system", "content": prompt}, {"role": "user", "content": question}]
    answered = await AsyncOpenAI().chat.completions.create(model="gpt-4o-mini", messages=messages)
    return answered.choices[0].message.content or ""


async def home(request: Request) -> PlainTextResponse:
    return PlainTextResponse(await answer(request.query_params["question"]))


app = Starlette(routes=[Route("/", home)])
