"""Serving an agent must not cost what training costs."""

import os
import subprocess
import sys

HEAVY = ("dspy", "litellm", "numpy", "scipy", "rich", "typer")
SERVE = f"""
import asyncio, sys, time
started = time.perf_counter()
from bindu.dspy import bootstrap_prompt, close_storage, record_feedback, record_task
from bindu.dspy import select_prompt_with_canary, stop_prompt_refresh

async def serve():
    await bootstrap_prompt("You help.")
    prompt = await select_prompt_with_canary(unit_id="alice")
    history = [{{"role": "user", "content": "hi"}}, {{"role": "assistant", "content": "hello"}}]
    task = await record_task(history, prompt=prompt)
    await record_feedback(task, {{"thumbs_up": True}})
    await stop_prompt_refresh()
    await close_storage()

asyncio.run(serve())
print([name for name in {HEAVY} if name in sys.modules])
seconds = time.perf_counter() - started
import psutil  # not ru_maxrss: a child inherits its parent's
print(seconds, psutil.Process().memory_info().rss / 2**20)
"""


def test_serving_and_recording_load_nothing_of_training_and_stay_small(postgres_url: str) -> None:
    environment = os.environ | {"STORAGE__POSTGRES_URL": postgres_url}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SERVE], env=environment, capture_output=True, text=True, check=True
    )
    heavy, figures = done.stdout.splitlines()
    seconds, megabytes = map(float, figures.split())
    assert heavy == "[]"
    assert done.stderr == ""
    assert megabytes < 60
    assert seconds < 3  # a ceiling for a loaded machine; a benchmark holds the real bar
