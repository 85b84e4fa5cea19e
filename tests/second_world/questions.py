"""What people ask the cooking coach; half of them keep a diet and say so, half say how many will eat."""

from __future__ import annotations

from typing import Final

from bindu.dspy.simulation.draws import Draws
from bindu.dspy.simulation.world import Questions

__all__ = ["QUESTIONS"]

_DISHES: dict[bool, dict[str, tuple[str, ...]]] = {
    False: {
        "bread": ("sourdough", "wholemeal bread", "ciabatta"),
        "rice": ("risotto", "pilaf", "sushi rice"),
        "roast": ("pork shoulder", "leg of lamb", "rib of beef"),
        "cake": ("lemon cake", "carrot cake", "Victoria sponge"),
        "sauce": ("hollandaise", "pepper sauce", "mayonnaise"),
        "soup": ("leek soup", "lentil soup", "goulash"),
        "fish": ("salmon", "cod", "mackerel"),
        "tart": ("apple tart", "quiche", "treacle tart"),
        "potato": ("chips", "roasties", "hash browns"),
        "batter": ("crêpes", "blinis", "Yorkshire puddings"),
        "beans": ("hummus", "chilli", "baked beans"),
    },
    True: {
        "bread": ("rye bread", "focaccia"),
        "rice": ("paella", "biryani"),
        "roast": ("duck", "brisket"),
        "cake": ("marble cake", "gingerbread"),
        "sauce": ("béarnaise", "gravy"),
        "soup": ("minestrone", "pumpkin soup"),
        "fish": ("trout", "sea bass"),
        "tart": ("pear tart", "galette"),
        "potato": ("rösti", "gratin"),
        "batter": ("waffles", "tempura"),
        "beans": ("falafel", "cassoulet"),
    },
}
_SITUATIONS = (
    ("bread", "my {dish} came out flat as a board, the dough just sat there."),
    ("bread", "how do I get a crust on {dish}? the dough was fine I think."),
    ("rice", "the {dish} turned into glue, grains all stuck together."),
    ("rice", "{dish}: how long do the grains need and do I stir?"),
    ("roast", "I want to put a {dish} in for Sunday, never did a roast before."),
    ("roast", "last roast was tough as boots. It was {dish}. Help!"),
    ("cake", "what makes a {dish} collapse when I take the tin out?"),
    ("cake", "{dish} for a birthday, which tin and how do I go about it?"),
    ("sauce", "help, {dish} has curdled again!!"),
    ("sauce", "is there a trick to {dish}, mine gets lumps or it has curdled."),
    ("soup", "my {dish} tastes of nothing, what can I put in the pot?"),
    ("soup", "can I make {dish} in one pot on a weeknight?"),
    ("fish", "{dish} fillets always stick to the pan and fall to bits."),
    ("fish", "got two fillets of {dish} from the market, how would you do them?"),
    ("tart", "soggy bottom on my {dish}, what about the pastry?"),
    ("tart", "do I have to bake the pastry first for a {dish}?"),
    ("potato", "want {dish} that are crisp outside, mine go limp. Which spuds?"),
    ("potato", "which spuds for {dish} and do they need washing?"),
    ("batter", "{dish} tore when I turned them, maybe the batter is too thin?"),
    ("batter", "how long should batter for {dish} stand?"),
    ("beans", "{dish} from dried pulses, do I need to soak them overnight?"),
    ("beans", "forgot to soak the pulses. Can I still make {dish}?"),
    ("soup", "what shall I serve before a {dish}?"),
)
_OPENINGS = ("", "", "", "Chef, ", "Hey coach, ", "Quick one: ", "Evening! ")
_MOODS = ("", "", "", " Guests at eight, I am sweating.", " My flatmates laughed at me.", " Ta!",
          " I only have one hob that works.", " It smells nice at least.", " First try, be gentle.")  # fmt: skip
_DIETS = {False: ("vegan", "lactose-free", "halal", "low-salt"), True: ("vegetarian", "nut-free", "kosher", "low-carb")}
_KEEPING = (" It has to be {diet}.", " We eat {diet} at home.", " My partner eats {diet}.")
_EATERS = {False: (2, 3, 4, 6), True: (5, 7, 8, 9)}
_COUNTING = (" There will be {eaters} of us.", " I am cooking for {eaters} people.", " It is for {eaters} people.")
_MORE = ("Ok cool. And ", "Right. Also, ", "Nice, saved that. Now ", "Different pan, same cook: ")


def _matter(draw: Draws, held_out: bool) -> str:
    kind, situation = draw.choice(_SITUATIONS)
    return situation.format(dish=draw.choice(_DISHES[held_out][kind]))


def _first(draw: Draws, held_out: bool) -> str:
    matter = _matter(draw, held_out)
    keeping = draw.choice(_KEEPING).format(diet=draw.choice(_DIETS[held_out])) if draw.chance(0.5) else ""
    counting = draw.choice(_COUNTING).format(eaters=draw.choice(_EATERS[held_out])) if draw.chance(0.5) else ""
    told = (keeping, counting) if draw.chance(0.5) else (counting, keeping)
    return f"{draw.choice(_OPENINGS)}{matter}{''.join(told)}{draw.choice(_MOODS)}"


def _further(draw: Draws, held_out: bool) -> str:
    return f"{draw.choice(_MORE)}{_matter(draw, held_out)}"


QUESTIONS: Final = Questions(first=_first, further=_further)
