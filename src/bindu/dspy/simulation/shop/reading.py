"""How the simulated judge and reflector read what is written at the shop; their words are their own."""

from __future__ import annotations

from typing import Final

from bindu.dspy.simulation.language import Vocabulary
from bindu.dspy.simulation.world import Reading, Trait, trait

__all__ = ["READING"]

_TRAITS: dict[str, Trait] = {
    "greets by name": trait(
        r"\A(?:hi|hello|dear) (?!customer\b)\w+,",
        r"form letter|impersonal|by (?:my|their) name|I am called|greets by name",
        (
            "Greet the customer by name when it is known.",
            "Use the customer's first name in the greeting.",
            "Make the message personal.",
        ),
        ("Do not use the customer's name.", "Avoid personal greetings."),
    ),
    "apologises": trait(
        r"\bsorry\b|\bapolog",
        r"regret|nobody .{0,10}care|apolog|cold\b",
        (
            "Apologise for the trouble before anything else.",
            "Acknowledge the customer's frustration.",
            "Say sorry when something went wrong.",
            "Be warm.",
        ),
        ("Do not apologise.", "Leave out any apology."),
    ),
    "answers first": trait(
        r"\b(?:yes|no), (?:I|we|you|your|the)\b",
        r"to the point|yes or no|before the actual|answers first",
        (
            "Start with the answer in one sentence.",
            "Answer the question first, without an introduction.",
            "Get to the point at once.",
        ),
        ("Do not start with the answer.", "Never open with a yes or no."),
    ),
    "numbered steps": trait(
        r"^\s*[12][.)] ",
        r"what to click|supposed to do|where to start|which order$|in which order|numbered steps|wall of text",
        (
            "Explain what to do as numbered steps.",
            "Put instructions in a short step-by-step list.",
            "Structure the text clearly.",
        ),
        ("Do not use numbered lists.", "Avoid bullet points and steps."),
    ),
    "states the time": trait(
        r"\b\d+ (?:\w+ )?(?:day|hour|minute|week)s?\b",
        r"how long|\bwhen\b|days, weeks|states the time",
        (
            "State how long things take.",
            "Name the time frame in days or hours.",
            "Tell the customer by when it will be done.",
        ),
        ("Do not promise a time frame.", "Avoid mentioning how long things take."),
    ),
    "states the cost": trait(
        r"\bfree\b|\bno (?:cost|charge|fee)|\bcosts?\b|€",
        r"\bpay\b|\bfee\b|\bcost|charge",
        ("Say what it costs, or that it is free of charge.", "Mention any fees.", "Be transparent about money."),
        ("Do not talk about costs.",),
    ),
    "identifies the order": trait(
        r"\border (?:number|\d)",
        r"which (?:purchase|order)|look(?:ed)? up my order|identifies the order",
        ("Refer to the order number, or ask for it when it is missing.", "Ask for the order number."),
        ("Do not ask for the order number.",),
    ),
    "offers a person": trait(
        r"\b(?:colleague|human|real person|to a person|call you)\b",
        r"machine|human|somebody|someone|phone|offers a person",
        ("Offer to hand over to a human colleague.", "Mention that the customer can talk to a real person."),
        ("Do not offer a human colleague.", "Never mention colleagues."),
    ),
    "ends with a question": trait(
        r"\?\s*\Z",
        r"whether that solves|left me hanging|checked if|ends with a question|matter was closed",
        (
            "End with a question that checks whether the problem is solved.",
            "Close by asking if there is anything else.",
            "Stay in contact.",
        ),
        ("Do not end with a question.",),
    ),
    "quotes the terms": trait(
        r"\bsection \d|terms and conditions|\bpolicy\b",
        r"small print|legalese|in court|terms and conditions|quotes the terms",
        ("Cite the relevant section of the terms and conditions.", "Quote our policy."),
        ("Do not quote policies or terms and conditions.", "Avoid legalese."),
        True,
    ),
    "internal codes": trait(
        r"\b(?:RMA|SLA|ERP|SKU|WMS|tier-2)\b",
        r"gibberish|codes\b|abbreviation|jargon|understand a word",
        ("Use precise technical terms.", "Give the internal codes."),
        (
            "Do not use internal codes or jargon.",
            "Write in plain language.",
            "Avoid abbreviations that customers do not know.",
        ),
        True,
    ),
    "advertises": trait(
        r"\bpremium\b|\bbundle|\bsale\b|membership",
        r"\bsell\b|adverti[sz]|sales pitch",
        ("Mention our Premium membership.", "Recommend products from the sale."),
        ("Do not advertise.", "Never promote other offers."),
        True,
    ),
    "empty phrases": trait(
        r"value your business|valued customer|patience and understanding|at the heart",
        r"empty phrases|hot air|flatter|too long|so much blah|polite phrases",
        ("Thank customers for their patience and trust.", "Tell customers how much we value their business."),
        ("Leave out empty phrases and pleasantries.", "Keep it short and do not thank for patience.", "Be concise."),
        True,
    ),
}

# What rules and instructions mean to them
_RULES = Vocabulary(
    {
        "greets by name": (
            r"\bnames?\b.{0,30}\b(?:known|greeting|customer|given)|(?:by|first|customer's) name|address .{0,20}name",
            r"personal",
        ),
        "apologises": (r"apolog", r"\bsorry\b", r"empath|frustration|sympath|acknowledge", r"\bwarm\b"),
        "answers first": (
            r"(?:start|begin|open).{0,25}\b(?:answer|yes)",
            r"answer.{0,20}\b(?:first|directly)|\bdirect",
            r"to the point",
        ),
        "numbered steps": (r"\bsteps?\b", r"numbered|bullet|step-by-step", r"\blist\b", r"structure"),
        "states the time": (r"how long", r"time ?(?:frame|line)", r"in days|\bby when\b|duration|how many days"),
        "states the cost": (r"\bcosts?\b|\bfees?\b|free of charge|\bmoney\b",),
        "identifies the order": (r"order number|order id|number of the order",),
        "offers a person": (r"\bhuman\b|colleague|real person|hand .{0,10}over|escalat",),
        "ends with a question": (
            r"(?:end|close|finish).{0,30}(?:question|asking)",
            r"(?:there is|is there) anything else|is solved|in contact",
        ),
        "quotes the terms": (r"polic(?:y|ies)|terms and conditions|legal|section of",),
        "internal codes": (r"jargon|internal (?:codes?|terms?)|technical terms|abbreviations",),
        "advertises": (r"adverti[sz]|promot|premium|products from|\boffers\b",),
        "empty phrases": (r"empty phrases|pleasantries|thank .{0,30}(?:patience|trust|loyalty)|value their",),
    },
    opposites={
        "empty phrases": (r"\bshort\b|concise|\bbrief",),
        "internal codes": (r"plain (?:language|words|english)",),
    },
)

_SUPERSTITIONS = (
    "Write in British English.",
    "Use at most one exclamation mark.",
    "Mention the weather when the customer sounds relaxed.",
    "Prefer the active voice over the passive one.",
    "Vary the length of your sentences.",
    "Repeat the most important word of the customer's message.",
    "Stay positive and professional at all times.",
    "Sound confident.",
    "Tell customers how much we value their business.",
    "Use precise technical terms.",
)

READING: Final = Reading(traits=_TRAITS, rules=_RULES, superstitions=_SUPERSTITIONS)
