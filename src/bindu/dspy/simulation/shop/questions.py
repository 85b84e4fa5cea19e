"""What customers of the shop write; four in five say who they are, half of them give an order number."""

from __future__ import annotations

from typing import Final

from bindu.dspy.simulation.draws import Draws
from bindu.dspy.simulation.world import Questions

__all__ = ["QUESTIONS"]

_SITUATIONS = (
    "I sent back my {item} and have not seen any money yet, where is my refund?",
    "How do I get my money back for the {item} I returned?",
    "My {item} should have arrived last week and it still is not here.",
    "The delivery of my {item} is late, can you find out where the parcel is?",
    "The {item} I received is broken, it must have been damaged on the way.",
    "I opened the box and the {item} has a crack in it, so it came damaged.",
    "The {item} does not fit, can I exchange it for another size?",
    "You sent me the wrong size of the {item}. How do I swap it?",
    "I want to cancel my order of the {item} before it leaves the warehouse.",
    "Is it still possible to cancel? I ordered the {item} by mistake.",
    "I need an invoice with our company name for the {item}.",
    "The invoice for my {item} never came, can you send it again?",
    "I cannot log in to my account any more and need to check on my {item}.",
    "My password reset does not work, so I cannot see the status of my {item}.",
    "The discount code was rejected when I bought the {item}.",
    "You promised a discount code for the {item} but it does not work at checkout.",
    "My {item} stopped working after two months, is that under warranty?",
    "The {item} makes a strange noise. Does the warranty cover a repair?",
    "I have moved and need the {item} to go to another address.",
    "I gave the wrong delivery address for my {item}, can you change it?",
    "A screw and the manual are missing from the box of my {item}.",
    "Some parts are missing, I cannot put the {item} together.",
)
_ITEMS = {
    False: ("desk lamp", "kettle", "rain jacket", "office chair", "bike helmet", "toaster", "backpack", "bookshelf",
            "pair of boots", "coffee grinder", "tent", "monitor stand", "wool blanket", "yoga mat", "garden hose"),
    True: ("floor lamp", "blender", "ski jacket", "standing desk", "tennis racket", "waffle iron", "suitcase",
           "side table", "pair of sandals", "espresso machine", "sleeping bag", "webcam", "feather pillow"),
}  # fmt: skip
_NAMES = {
    False: ("Maria", "Jonas", "Aisha", "Pedro", "Lena", "Tom", "Priya", "Marek", "Chloe", "Yusuf", "Ingrid", "Diego",
            "Hanna", "Kwame", "Sofia", "Liam", "Noor", "Viktor", "Amelie", "Ravi"),
    True: ("Greta", "Omar", "Paula", "Henrik", "Mina", "Jack", "Beatriz", "Stefan", "Leila", "Oscar", "Ewa", "Kofi",
           "Nadia", "Bruno", "Saga", "Felix"),
}  # fmt: skip
_OPENINGS = ("Hello, ", "Hi there, ", "Hi, ", "Good morning, ", "", "", "")
_MOODS = ("", "", "", " I am really annoyed by now.", " This is the second time I write!",
          " It was meant as a birthday present.", " Thanks in advance.", " Please hurry.", " I am quite disappointed.",
          " No rush.")  # fmt: skip
_NAMING = ("My name is {name}. ", "This is {name}. ")
_ORDERS = (" My order number is {order}.", " It is order {order}.", " Order number: {order}.")
_MORE = ("One more thing: ", "Thanks. And another question: ", "Okay. Then something else: ", "While we are at it: ")


def _first(draw: Draws, held_out: bool) -> str:
    text = draw.choice(_SITUATIONS).format(item=draw.choice(_ITEMS[held_out]))
    name = draw.choice(_NAMES[held_out])
    order = int(draw.uniform(70_000, 90_000) if held_out else draw.uniform(10_000, 70_000))
    named, signed, numbered = draw.chance(0.5), draw.chance(0.6), draw.chance(0.5)
    introduction = draw.choice(_NAMING).format(name=name) if named else ""
    number = draw.choice(_ORDERS).format(order=order) if numbered else ""
    signature = f"\n{name}" if signed and not named else ""
    return f"{draw.choice(_OPENINGS)}{introduction}{text}{number}{draw.choice(_MOODS)}{signature}"


def _further(draw: Draws, held_out: bool) -> str:
    return draw.choice(_MORE) + draw.choice(_SITUATIONS).format(item=draw.choice(_ITEMS[held_out]))


QUESTIONS: Final = Questions(first=_first, further=_further)
