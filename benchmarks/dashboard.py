"""What an agent's page weighs and how soon it is seen, with 100,000 tasks and 500 decisions, and with a tenth of both.

``python benchmarks/dashboard.py [ROUNDS]``; needs chromium. The limit in the same run is a page without content from
the same server. A bar is met by the median; exit code 1 when one is missed.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from random import Random

import httpx
from machine import machine
from playwright.sync_api import Browser, sync_playwright
from pydantic import SecretStr
from uuid_utils.compat import uuid7

from bindu.dspy.canary.controller import run_step
from bindu.dspy.collector import new_id
from bindu.dspy.models import Feedback, Task
from bindu.dspy.prompts import bootstrap_prompt, insert_prompt
from bindu.dspy.storage import close_storage, get_storage
from bindu.settings import app_settings

TASKS, HOURS, RATED = 200, 500, 0.4  # per hour of the large history; the small one lasts a tenth of it
BARS = {"first paint, s": 1.0, "whole page, kB gzipped": 60.0}
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PAINTED = """() => new Promise(tell => new PerformanceObserver(seen => {
    const paint = seen.getEntriesByName('first-contentful-paint')[0];
    if (paint) tell(paint.startTime);
}).observe({type: 'paint', buffered: true}))"""
ACTIVE = "You are the support agent of an online shop. " + "Be friendly and answer in a few sentences. " * 30
TALK = [{"role": "user", "content": "Where is my parcel? " * 5}, {"role": "assistant", "content": "On its way. " * 20}]


async def fill(agent: str, hours: int) -> None:
    """An undecided experiment of so many hourly windows, every one of them with tasks, votes and a decision."""
    numbers = Random(agent)
    storage = await get_storage()
    began = await storage.now() - timedelta(hours=hours + 1)
    await bootstrap_prompt(ACTIVE, agent_id=agent, now=began)
    await insert_prompt(ACTIVE + "Say when it arrives.", "candidate", 0.5, agent_id=agent, now=began)
    for hour in range(hours):
        at = began + timedelta(hours=hour, minutes=30)
        tasks = [_task(agent, 1 + number % 2, at + number * timedelta(seconds=5)) for number in range(TASKS)]
        await storage.add_tasks(tasks)
        await storage.add_feedback([_vote(task, numbers) for task in tasks if numbers.random() < RATED])
        await run_step(agent_id=agent, now=began + timedelta(hours=hour + 1, seconds=1))


def _task(agent: str, prompt: int, at: datetime) -> Task:
    return Task(agent_id=agent, id=new_id(at), prompt_id=prompt, history=TALK, experiment_id=1, created_at=at)


def _vote(task: Task, numbers: Random) -> Feedback:
    assert task.created_at is not None
    score = float(numbers.random() < 0.7)
    given = {"score": score, "comment": "quick and clear" if numbers.random() < 0.1 else None}
    at = task.created_at + timedelta(minutes=1)
    return Feedback(agent_id=task.agent_id, task_id=task.id, id=uuid7(), kind="thumbs_up", created_at=at, **given)


def never_decide() -> None:
    """The longest history is that of an experiment that nothing ends."""
    canary = app_settings.dspy.canary
    canary.longest_days = canary.max_age_days = 90.0
    canary.alpha_win = canary.alpha_harm = canary.alpha_futility = 1e-9
    canary.window_feedback = 1


@contextmanager
def server(url: str, folder: str) -> Iterator[str]:
    """``bindu serve`` on that database: its address."""
    command = [sys.executable, "-m", "bindu.dspy.cli.app", "serve", "--port", "0"]
    environment = {"STORAGE__POSTGRES_URL": url, "PATH": "/usr/bin:/bin", "HOME": folder}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip().rpartition(" ")[2]
    finally:
        process.terminate()
        process.wait()


def first_paint(browser: Browser, url: str) -> float:
    """Seconds from the click to the first text, with nothing in the browser's cache."""
    page = browser.new_page()
    page.goto(url, wait_until="load")
    milliseconds = float(page.evaluate(PAINTED))
    page.close()
    return milliseconds / 1_000


def weight(url: str) -> float:
    """Kilobytes of the page and of all that it loads at once, gzipped as they are sent."""
    with httpx.Client(headers={"accept-encoding": "gzip"}) as http:
        html = http.get(url).text
        parts = re.findall(r'(?:src|href)="(/dashboard/static/[^"]+)"', html)
        sizes = [len(gzip.compress(html.encode()))]
        sizes += [int(http.get(httpx.URL(url).join(part)).headers["content-length"]) for part in parts]
    return sum(sizes) / 1_000


def answered(url: str, rounds: int) -> float:
    """Median milliseconds of the server for the page, each time after something changed or its reading grew old."""
    spent = []
    with httpx.Client() as http:
        for _ in range(rounds):
            began = time.perf_counter()
            http.get(url).raise_for_status()
            spent.append(1_000 * (time.perf_counter() - began))
    return statistics.median(spent)


def prepare(url: str) -> None:
    app_settings.storage.postgres_url = SecretStr(url)
    never_decide()

    async def filled() -> None:
        for agent, hours in (("small", HOURS // 10), ("large", HOURS)):
            began = time.perf_counter()
            await fill(agent, hours)
            print(f"{agent}: {hours * TASKS:,} tasks, {hours} decisions, filled in {time.perf_counter() - began:.0f} s")
        await close_storage()

    asyncio.run(filled())


def main(rounds: int) -> int:
    print(machine())
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        url = f"embedded:{folder}/postgres"
        prepare(url)
        with server(url, folder) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            limit = statistics.median(first_paint(browser, f"{address}/dashboard/sign-in") for _ in range(rounds))
            for agent in ("small", "large"):
                page = f"{address}/dashboard?agent={agent}"
                figures = {
                    "first paint, s": statistics.median(first_paint(browser, page) for _ in range(rounds)),
                    "whole page, kB gzipped": weight(page),
                }
                for name, figure in figures.items():
                    bad = figure > BARS[name]
                    missed += bad
                    print(f"{agent:6} {name:24} {figure:8.2f}  bar {BARS[name]:g}{'  MISSED' if bad else ''}")
                print(f"{agent:6} first paint / a page without content {figures['first paint, s'] / limit:.2f}")
                print(f"{agent:6} the server's part, ms {answered(page, rounds):.1f}")
            browser.close()
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 9))
