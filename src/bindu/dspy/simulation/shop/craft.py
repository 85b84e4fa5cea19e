"""What the simulated model can do for the shop: what it takes a prompt to ask for, what it then writes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from bindu.dspy.simulation.draws import Draws
from bindu.dspy.simulation.language import Vocabulary
from bindu.dspy.simulation.shop.phrases import EXTRAS, TOPICS, Topic
from bindu.dspy.simulation.world import Craft

__all__ = ["CRAFT"]

_ASKS = Vocabulary(
    {
        "name": (
            r"\b(by|use|using|with|include|mention)\b.{0,30}\bnames?\b",
            r"personal(ised|ized)? (greeting|salutation)",
            r"greet .{0,30}personally",
            r"first[- ]name",
        ),
        "empathy": (
            r"apolog",
            r"\bsorry\b",
            r"empath",
            r"acknowledge .{0,40}(trouble|frustration|feeling|problem|anger|inconvenience)",
            r"show .{0,20}(understanding|compassion)",
        ),
        "direct": (
            r"(start|begin|open|lead)\b.{0,30}\b(answer|solution|conclusion|yes or no)",
            r"answer .{0,30}\bfirst\b",
            r"(get|come) (straight )?to the point",
            r"direct(ly)? answer",
            r"answer .{0,20}directly",
            r"preamble|introduction",
            r"one[- ]sentence answer",
        ),
        "steps": (r"\bsteps?\b", r"numbered|step[- ]by[- ]step", r"bullet|checklist", r"(as|in) a list\b"),
        "time": (
            r"how long",
            r"\btime ?(frame|line|span|scale|limit)s?",
            r"\bdeadlines?\b",
            r"\bdurations?\b",
            r"(number of|how many) .{0,10}days",
            r"\b(by )?when\b.{0,30}(happen|arrive|expect|done|ready|take|paid|get)",
            r"waiting times?",
        ),
        "cost": (
            r"\b(costs?|fees?|charges?|price)\b",
            r"free of charge",
            r"about money",
            r"how much .{0,30}(pay|cost)",
            r"what .{0,20}(pays|pay) for",
        ),
        "order": (
            r"order[- ](number|id|reference|no\b)",
            r"number of (the|their) order",
            r"(refer|identify|look up).{0,20}\border\b",
        ),
        "human": (
            r"\bhumans?\b",
            r"(real|live) person",
            r"\bcolleague\b",
            r"(talk|speak|hand|pass|transfer|escalat\w+) .{0,30}(person|agent|staff|someone|team member)",
            r"call ?back|phone call",
        ),
        "follow_up": (
            r"(end|close|finish|conclude)\b.{0,40}\b(question|asking|whether)",
            r"follow[- ]?up question",
            r"(check|ask|confirm)\b.{0,30}\b(solved|resolved|helped|satisfied|answered|clear|anything else)",
        ),
        "policy": (
            r"\bpolic(y|ies)\b",
            r"terms and conditions",
            r"\blegal(ese)?\b",
            r"(quote|cite) .{0,20}(rules?|sections?|terms)",
            r"\bclauses?\b",
        ),
        "jargon": (
            r"\bjargon\b",
            r"internal (terms?|terminology|codes?|abbreviations?|vocabulary|names)",
            r"technical (terms?|language|vocabulary)",
            r"abbreviations?|acronyms?",
        ),
        "upsell": (
            r"\b(premium|upsell|cross-sell|upgrade|membership)",
            r"(recommend|advertise|promote|mention|pitch|sell) .{0,30}(products?|offers?|deals?|sale|bundles?)",
            r"\badverti[sz]",
        ),
        "filler": (
            r"\bfiller\b|\bpadding\b|pleasantr|platitude|flowery",
            r"thank .{0,30}(patience|trust|business|loyalty)",
            r"(value|appreciat\w+) .{0,30}(business|customer|loyalty)",
            r"marketing (talk|speak|phrases)",
            r"empty phrases",
        ),
    },
    opposites={
        "filler": (r"\b(short|brief|concise|succinct)(ly)?\b", r"to the minimum"),
        "jargon": (r"plain (language|words|english)", r"(simple|everyday) (words|language)"),
        "direct": (r"long (intro|opening)",),
    },
)

_PROPENSITY: dict[str, tuple[float, float]] = {
    "name": (0.40, 0.55),
    "empathy": (0.45, 0.60),
    "direct": (0.25, 0.40),
    "steps": (0.25, 0.40),
    "time": (0.30, 0.45),
    "cost": (0.20, 0.35),
    "order": (0.35, 0.50),
    "human": (0.20, 0.35),
    "follow_up": (0.35, 0.50),
    "policy": (0.15, 0.30),
    "jargon": (0.15, 0.30),
    "upsell": (0.10, 0.20),
    "filler": (0.40, 0.60),
}
_NAMED = re.compile(r"(?:[Mm]y name is|[Tt]his is|I am|I'm) ([A-Z][a-z]+)|\n([A-Z][a-z]+)\s*$")
_ORDER = re.compile(r"\border\D{0,12}(\d{5})\b", re.IGNORECASE)


def _compose(shown: set[str], messages: Sequence[str], draw: Draws) -> str:
    said = "\n".join(messages)
    name, order = _NAMED.search(said), _ORDER.search(said)
    fill = {"name": (name[1] or name[2]) if name else "", "order": order[1] if order else ""}
    topic = next(topic for topic in TOPICS if topic.concerns(messages[-1]))

    def say(kind: str) -> str:
        return draw.choice(EXTRAS[kind]).format_map(fill)

    greeting = say("greeting" if name and "name" in shown else "anonymous")
    opening = [say("empathy")] if "empathy" in shown else []
    opening += [f"{topic.short}."] if "direct" in shown else [say("preamble")]
    opening += [say("order_known" if order else "order_asked")] if "order" in shown else []
    extras = [say(kind) for kind in ("policy", "jargon", "human", "upsell", "filler") if kind in shown]
    closing = [say("follow_up")] if "follow_up" in shown else []
    return "\n\n".join(filter(None, (greeting, " ".join(opening), _explain(topic, shown), " ".join(extras + closing))))


def _explain(topic: Topic, shown: set[str]) -> str:
    how = topic.prose
    if "steps" in shown:
        how = "\n".join(f"{i}. {step}" for i, step in enumerate(topic.steps, 1))
    facts = " ".join(text for kind, text in (("time", topic.time), ("cost", topic.cost)) if kind in shown)
    return "\n".join(filter(None, (how, facts)))


CRAFT: Final = Craft(asks=_ASKS, propensity=_PROPENSITY, compose=_compose)
