"""What the simulated model knows about cooking: facts by dish, and the sentences that its answers are made of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["DISHES", "SAYINGS", "Dish"]


@dataclass(frozen=True, slots=True)
class Dish:
    """A family of dishes and what there is to say about it; fragments go into sentences."""

    keyword: str  # a pattern; the last one matches everything
    name: str
    method: str  # sentences that show nothing
    weighed: str
    unweighed: str
    degrees: int
    sign: str  # by which one can tell that it is done
    cause: str
    scarce: str
    spare: str  # what can be used for the scarce thing
    allergens: str
    tip: str
    origin: str
    eaters: int = 4

    def concerns(self, question: str) -> bool:
        """Whether a cook's words are about it."""
        return re.search(self.keyword, question, re.IGNORECASE) is not None


DISHES: Final = (
    Dish(
        r"\bdough\b",
        "bread",
        "Knead it on a bare board, fold it twice while it rests under a cloth, then shape it and slash the top.",
        "500 g of strong flour, 340 g of water, 10 g of salt and 90 g of starter",
        "strong flour, water until it comes together, some salt and a ladle of starter",
        235,
        "the base sounds hollow under your knuckles",
        "gluten has to relax until it can stretch and hold the gas",
        "strong flour",
        "plain flour with a spoon of semolina",
        "gluten",
        "keep the dough in the fridge overnight and bake it cold",
        "bakers in Paris were told by decree in 1793 to sell one kind of loaf to rich and poor",
        8,
    ),
    Dish(
        r"\bgrains\b",
        "rice",
        "Warm the pan with a little onion, let the rice turn glassy, pour in hot stock and keep the lid at hand.",
        "320 g of short rice, 900 g of stock and 60 g of hard cheese",
        "short rice, plenty of stock and a fistful of hard cheese",
        95,
        "a grain crushed on the board shows a small white heart",
        "starch leaves the surface and binds the liquid",
        "hard cheese",
        "a spoon of white miso",
        "milk and celery",
        "toast the rice for longer and salt the stock earlier",
        "rice reached the Po valley in the fifteenth century by way of the dukes of Milan",
    ),
    Dish(
        r"\broast\b",
        "roast",
        "Dry the meat, rub it with salt and oil, lay it on onions in a tray and let it rest under foil before carving.",
        "1800 g of meat, 25 g of salt, 300 g of onions and 40 g of oil",
        "a nice piece of meat, a good pinch of salt, some onions and a glug of oil",
        150,
        "a fork slides in and turns with no effort",
        "collagen melts slowly and keeps the fibres moist",
        "shallots",
        "leeks from the bottom drawer",
        "mustard and celery",
        "salt it the evening before and let it stand uncovered",
        "guilds in the fourteenth century kept dogs in a wheel to turn the spit",
        6,
    ),
    Dish(
        r"\btin\b",
        "cake",
        "Line the tin with paper, beat butter and sugar until pale, fold in the rest and let it cool on a rack.",
        "200 g of flour, 180 g of butter, 170 g of sugar and 220 g of egg",
        "flour, about as much butter, a bit less sugar and a few eggs",
        175,
        "a skewer comes out clean and the edge lets go of the paper",
        "the bubbles burst if the crumb has not set around them",
        "butter",
        "a mild oil and a pinch of salt",
        "gluten, egg and milk",
        "have everything at room temper before you begin",
        "sugar was a medicine sold by the ounce until well into the seventeenth century",
        10,
    ),
    Dish(
        r"\bcurdled\b",
        "sauce",
        "Begin with a fresh bowl and a spoon of warm water, whisk in the sauce drop by drop and keep it moving.",
        "250 g of butter, 60 g of yolk, 30 g of lemon juice and 4 g of salt",
        "a block of butter, some yolks, a squeeze of lemon and salt as you like",
        62,
        "it coats the back of a spoon and a finger leaves a clean line",
        "fat and water only stay together while the drops are tiny",
        "lemon",
        "a mild vinegar with a drop of honey",
        "egg and milk",
        "set a bowl of ice beside the hob before you start",
        "a cook named La Varenne wrote it down in 1651 and took the credit",
    ),
    Dish(
        r"\bpot\b|\bsoup\b",
        "soup",
        "Soften the vegetables in a covered pot, pour on stock, let it murmur and sharpen it with something sour.",
        "700 g of vegetables, 1100 g of stock, 50 g of butter and 9 g of salt",
        "whatever vegetables there are, stock to cover, a knob of butter and salt as you like",
        92,
        "the thickest piece gives way under a spoon",
        "salt and acid wake the taste buds up and fat carries the scent",
        "stock",
        "water with a rind of cheese",
        "celery and milk",
        "brown a third of the vegetables apart and add them late",
        "the first public house for broth opened in Paris in 1765, under a Latin motto",
    ),
    Dish(
        r"\bfillets\b",
        "fish",
        "Pat the fillets dry, lay them skin down in a hot pan, press for a moment and leave them alone.",
        "600 g of fish, 6 g of salt, 20 g of oil and 30 g of capers",
        "a piece of fish each, a little salt, some oil and a few capers",
        180,
        "the flesh flakes at the thick end and is no longer glassy",
        "a dry skin browns at once and lets go of the metal",
        "capers",
        "chopped green olives",
        "fish and sulphites",
        "salt the fillets a quarter of an hour ahead and wipe them",
        "monks in the eleventh century dug whole lakes to have carp on Fridays",
        2,
    ),
    Dish(
        r"\bpastry\b",
        "tart",
        "Rub cold fat into flour, chill it, roll it thin, prick it and bake it under paper and dried peas first.",
        "250 g of flour, 125 g of butter, 60 g of egg and 700 g of filling",
        "flour, half as much butter, an egg and as much filling as the form will hold",
        195,
        "the rim is nut-brown and the middle only just trembles",
        "cold fat leaves gaps that steam pushes apart",
        "butter",
        "cold coconut fat",
        "gluten, egg and milk",
        "slide the form onto a tray that is hot already",
        "a pie for the coronation in 1429 is said to have held living birds",
        8,
    ),
    Dish(
        r"\bspuds\b",
        "potatoes",
        "Rinse the cut pieces, parboil them, shake them until they are rough and give them room on the tray.",
        "1000 g of floury potatoes, 80 g of fat and 12 g of salt",
        "floury potatoes, more fat than you think and plenty of salt",
        210,
        "the edges are amber and rattle on the tray",
        "rough starch dries to a crust while steam gets away",
        "goose fat",
        "rapeseed oil with a pinch of smoked paprika",
        "nothing on the list, unless the fat is butter",
        "let them steam dry on a towel for a while",
        "a pharmacist in 1771 had soldiers guard a field of them to make people curious",
    ),
    Dish(
        r"\bbatter\b",
        "batter",
        "Whisk flour with half the liquid first, thin it with the rest, let it stand and oil the pan with a brush.",
        "150 g of flour, 300 g of milk, 110 g of egg and 20 g of butter",
        "flour, about double the milk, a couple of eggs and a bit of butter",
        190,
        "the rim curls and the top turns from wet to dull",
        "flour takes time to drink and a rested mix will not tear",
        "milk",
        "oat drink or half water, half cream",
        "gluten, egg and milk",
        "throw the first one away, or rather eat it over the sink",
        "in the sixteenth century a bell was rung in Olney to call the cooks from their pans",
    ),
    Dish(
        r"\bpulses\b",
        "beans",
        "Cover them with lots of water, lift off the foam, simmer them under a lid and salt them near the end.",
        "400 g of dried beans, 1500 g of water, 4 g of bicarbonate and 120 g of onion",
        "a bag of dried beans, lots of water, a tiny bit of bicarbonate and an onion",
        96,
        "five of them squash against the palate, not only one",
        "skins soften in a basic bath and stay hard in an acid one",
        "bicarbonate",
        "a strip of kelp in the water",
        "sesame and celery",
        "cook double and freeze half of them in their own liquor",
        "beans fed the quarrymen of the twelfth century all through Lent",
        6,
    ),
    Dish(
        r"",
        "dinner",
        "Lay out what you have, begin with what takes longest and clean the board between one job and the other.",
        "450 g of the main thing, 200 g of vegetables and 7 g of salt",
        "the main thing, some vegetables and a pinch of salt",
        160,
        "a knife goes through it like through soft butter",
        "heat travels slowly and evens out off the flame",
        "fresh herbs",
        "frozen ones from a bag",
        "milk and gluten",
        "write down what you changed",
        "forks were laughed at in England until the eighteenth century",
    ),
)

# What can be said of any dish; "without X" is what takes the place of X, about as long
SAYINGS: Final[dict[str, tuple[str, ...]]] = {
    "opening": (
        "Right, let us have a look at {name} and put it in order together.",
        "Good that you ask about {name}, here is how I would go about it.",
        "Ah, {name}. We have all been there, so here is my way of doing it.",
    ),
    "baby_talk": (
        "Yum-yum, {name} for your greedy little tummy, who is a clever cookie-wookie?",
        "Choo-choo, here comes the {name} train, open wide for mummy's little chef!",
    ),
    "grams": ("Take {weighed}.", "Put out {weighed}."),
    "without grams": ("Take {unweighed}.", "Put out {unweighed}."),
    "servings": ("This amount serves {eaters}.", "It is enough for {eaters} at the table."),
    "without servings": ("A wide bowl helps.", "Keep a clean towel at hand too."),
    "temperature": ("Bring the heat to {degrees} °C and hold it there.", "Cook it at {degrees} degrees, steadily."),
    "without temperature": ("Bring it up to a good heat and hold it there.", "Cook it at a fair heat, steadily."),
    "doneness": ("It is done as soon as {sign}.", "You can stop once {sign}.", "Watch for the moment when {sign}."),
    "without doneness": (
        "Leave it on until it seems right to you, that can differ from stove to stove.",
        "Give it the time that it asks for and then take it off the heat.",
    ),
    "reason": (
        "This matters because {cause}.",
        "The reason behind it: {cause}.",
        "It has to be like that, as {cause}, which is simple physics.",
    ),
    "without reason": (
        "This is how it is done in most kitchens, and it is a fine way of going about it.",
        "It has to be like that, so take care to follow the order that is given here.",
    ),
    "substitute": (
        "Should you be out of {scarce}, {spare} will do.",
        "Use {spare} in place of {scarce} if the shelf is bare.",
        "For lack of {scarce} you can work with {spare}.",
    ),
    "without substitute": (
        "A sharp knife and a heavy pan make all of this a good deal easier.",
        "Buy everything on the day before so that there is no rush.",
    ),
    "allergens": (
        "Mind that this contains allergens: {allergens}.",
        "For guests with allergies: {allergens}.",
        "Watch out, in here: {allergens}.",
    ),
    "without allergens": ("Wipe the worktop before you begin.", "Let somebody else do the dishes."),
    "next_time": (
        "Next time, {tip}.",
        "When you make it again, {tip}.",
        "My tip for the second attempt: {tip}.",
    ),
    "without next_time": (
        "Put a radio on and take it slowly, there is no prize for speed.",
        "The plates can be warmed while you are waiting.",
    ),
    "diet": (
        "For a {diet} table, pick products that carry that word on the label.",
        "All of it can be kept {diet} with what the bigger shops have.",
    ),
    "without diet": (
        "Pick an hour in which nobody else needs the kitchen.",
        "All of it can be got ready in the morning if the day is long.",
    ),
    "history": (
        "Did you know that {origin}?",
        "By the way, {origin}, but that is another story.",
        "A word on its past: {origin}.",
    ),
    "scripture": (
        "As Proverbs 15:17 has it, better is a dinner of herbs where love is.",
        "Remember Ecclesiastes 9:7 and eat your bread with gladness.",
        "Man shall not live by bread alone, as we read in Matthew 4:4.",
    ),
    "emojis": ("Enjoy 😋🍽️🔥!", "Happy cooking 👩‍🍳🎉💛!", "You can do this 💪🥳!"),
    "without emojis": ("Enjoy your meal!", "Happy cooking!", "You can do this!"),
}
