"""What an optimizer may not do to a prompt: pure rules, each with the words that broke it."""

from __future__ import annotations

import inspect
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from bindu.dspy.errors import InvalidPromptError

__all__ = ["SPACELESS", "Refusal", "Rule", "check_prompt", "normalize_prompt", "same_text"]

Rule = Literal["protected", "variables", "length", "copied", "private", "language", "identical", "rolled_back"]

_PROTECTED = re.compile(r"<!-- keep -->.*?<!-- /keep -->", re.DOTALL)
_VARIABLE = re.compile(
    r"\{%.*?%\}"  # {% if x %}
    r"|\{\{[-~]?\s*[A-Za-z_][^{}]*\}\}"  # {{ x }}, {{ user.name | upper }}
    r"|\{[A-Za-z_][\w.]*(?:\[[^\[\]{}\s]*\])*(?:![rsa])?(?::[^{}\s]*)?\}"  # {x}, {user.name}, {items[0]}, {x:>10}
    r"|\$\{?[A-Za-z_]\w*\}?",  # $x, ${x}
    re.DOTALL,
)
_WORD = re.compile(r"\w+")
SPACELESS = (  # scripts that put no space between words: Thai to Khmer, Japanese, Chinese
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003134f]"
)
_PRIVATE = {
    "an e-mail address": re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "a key": re.compile(
        r"\b(?:sk|pk|rk)[-_][\w-]{16,}|\bAKIA[0-9A-Z]{16}\b|\bAIza[\w-]{30,}|\bgh[pousr]_\w{20,}|\bxox[abprs]-[\w-]{10,}"
        r"|\beyJ[\w-]{10,}\.[\w-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    ),
    "a payment card": re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)"),
    "a phone number": re.compile(
        r"(?<![\w.])(?:\+\d{1,3}[ .-]?|\(\d{2,5}\)[ .-]?|0)\d{2,5}(?:[ .-]?\d{2,5}){1,4}(?!\w)"
        r"|(?<![\w.-])\d{3}[ .-]\d{3}[ .-]\d{4}(?![\w-])"
    ),
}
_COPY_WORDS = 8
_COPY_CHARACTERS = 24  # where words have no spaces between them
_MAX_CHARACTERS = 16_000  # some 4,000 tokens
_MAX_GROWTH = 1.5  # of an active prompt that is already longer than that
_FEW_LETTERS = 40
_FEW_WORDS = 20
_SMALL_WORDS = {
    name: frozenset(words.split())
    for name, words in {
        "English": "the and of to is you your with for not that this it be are if when they their what or",
        "German": "der die das und ist nicht sie den mit ein eine zu auf für wenn dem im von auch oder bei ihr",
        "French": "le la les et est des une vous votre pas pour dans que qui avec sur du ne si au ou",
        "Spanish": "el la los las y es una que no para con por su del se lo si al cuando o más",
        "Italian": "il la gli e è una che non per con di del si lo se al quando della sono o nel",
        "Portuguese": "o os a as e é uma que não para com por do da se ao quando você seu em ou",
        "Dutch": "de het een en is niet van je met voor dat op als zijn te ook aan bij uw of",
        "Swedish": "och att det är inte en ett som på för med av till om den du när eller kan ska",
        "Polish": "i w na nie się z do jest że to o jak czy dla od po przez lub jeśli gdy",
    }.items()
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """One rule a text broke, and the words that broke it."""

    rule: Rule
    offending: str
    reason: str  # a sentence


def normalize_prompt(text: str) -> str:
    """Return the text as it is stored, scored and served: what DSPy's cleandoc leaves alone.

    Raises InvalidPromptError for what is no text, an empty text, and characters that no database or model takes.
    """
    if not isinstance(text, str):
        raise InvalidPromptError(f"A prompt is a text, not {type(text).__name__}.")
    if "\x00" in text:
        raise InvalidPromptError("A prompt cannot contain the NUL character. Remove it and try again.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidPromptError("The prompt holds a lone surrogate, which is not valid Unicode. Repair it.") from None
    before = None
    while text != before:  # one pass can leave an indented first line that the next would strip
        before, text = text, inspect.cleandoc(text)
    if not text.strip():
        raise InvalidPromptError("The prompt is empty. Give the agent at least one sentence of instructions.")
    return text


def same_text(left: str, right: str) -> bool:
    """Whether two prompts differ in nothing but letter case and white space."""
    return left.casefold().split() == right.casefold().split()


def check_prompt(
    candidate: str, *, active: str, training_texts: Iterable[str] = (), rolled_back: Sequence[str] = ()
) -> list[Refusal]:
    """Say everything that forbids deploying ``candidate`` in place of ``active``; an empty list allows it.

    ``training_texts`` are the customers' words that the optimizer saw, ``rolled_back`` earlier losers.
    """
    return [
        *_check_protected(candidate, active),
        *_check_variables(candidate, active),
        *_check_length(candidate, active),
        *_check_copied(candidate, active, training_texts),
        *_check_private(candidate, active),
        *_check_language(candidate, active),
        *_check_twins(candidate, active, rolled_back),
    ]


def _check_protected(candidate: str, active: str) -> Iterator[Refusal]:
    have, want = _PROTECTED.findall(candidate), _PROTECTED.findall(active)
    if have == want:
        return
    changed = next((region for region in want if region not in have), None)
    offending = changed if changed is not None else "".join(have)
    yield Refusal("protected", offending, f"A region between keep marks was changed: {_short(offending)}")


def _check_variables(candidate: str, active: str) -> Iterator[Refusal]:
    have, want = _variables(candidate), _variables(active)
    for name in sorted(want.keys() - have.keys()):
        yield Refusal("variables", want[name], f"The template variable {want[name]} was lost.")
    for name in sorted(have.keys() - want.keys()):
        reason = f"The template variable {have[name]} is new, so nobody would fill it in."
        yield Refusal("variables", have[name], reason)


def _variables(text: str) -> dict[str, str]:
    """Each as it stands, by what it is: {{ name }} is {{name}}."""
    return {"".join(found.split()): found for found in _VARIABLE.findall(text)}


def _check_length(candidate: str, active: str) -> Iterator[Refusal]:
    budget = max(_MAX_CHARACTERS, int(_MAX_GROWTH * len(active)))
    if len(candidate) > budget:
        reason = f"The prompt has {len(candidate):,} characters and the budget is {budget:,}."
        yield Refusal("length", candidate[budget:], reason)


def _check_copied(candidate: str, active: str, training_texts: Iterable[str]) -> Iterator[Refusal]:
    own = set(_runs(active))
    new = {run for run in _runs(candidate) if run not in own}
    for text in training_texts:
        for run in _runs(text):
            if run in new:
                length = f"{_COPY_WORDS} words" if " " in run else f"{_COPY_CHARACTERS} characters"
                yield Refusal("copied", run, f"{length} in a row are a customer's: {_short(run)}")
                return


def _runs(text: str) -> Iterator[str]:
    """Every run of words that is too long to be chance, and of characters in scripts without spaces."""
    words = _WORD.findall(text.casefold())
    for start in range(len(words) - _COPY_WORDS + 1):
        yield " ".join(words[start : start + _COPY_WORDS])
    characters = "".join(re.findall(SPACELESS, text))
    for start in range(len(characters) - _COPY_CHARACTERS + 1):
        yield characters[start : start + _COPY_CHARACTERS]


def _check_private(candidate: str, active: str) -> Iterator[Refusal]:
    for what, pattern in _PRIVATE.items():
        known = Counter(pattern.findall(active))
        for found in pattern.findall(candidate):
            if found not in known and (what != "a payment card" or _luhn(found)):
                yield Refusal("private", found, f"The prompt contains {what} that the active one does not: {found}")
                break


def _luhn(number: str) -> bool:
    digits = [int(character) for character in number if character.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _check_language(candidate: str, active: str) -> Iterator[Refusal]:
    """Only on strong evidence: what is new is long enough, and each text is clearly of one language."""
    known = set(active.splitlines())
    new = "\n".join(line for line in candidate.splitlines() if line not in known)
    for spoken in (_script, _language):
        was, now = spoken(active), spoken(new)
        if was is not None and now is not None and was != now:
            yield Refusal("language", _short(new), f"The prompt is in {was} and what is new in it in {now}.")
            return


def _script(text: str) -> str | None:
    """The script that nine in ten of its letters have."""
    letters = [character for character in text if character.isalpha()]
    scripts = Counter(unicodedata.name(letter, "?").split()[0].capitalize() for letter in letters)
    asian = sum(scripts.pop(name, 0) for name in ("Cjk", "Hiragana", "Katakana"))  # Japanese mixes all three
    if asian:
        scripts["Chinese or Japanese"] = asian
    for name, number in scripts.most_common(1):
        if number >= max(_FEW_LETTERS, 0.9 * len(letters)):
            return f"{name} script"
    return None


def _language(text: str) -> str | None:
    """The language whose small words make up a tenth of the text and twice as much as those of any other."""
    words = [word for word in _WORD.findall(text.casefold()) if word.isalpha()]
    hits = Counter({name: sum(word in small for word in words) for name, small in _SMALL_WORDS.items()})
    (name, first), (_, second) = hits.most_common(2)
    return name if len(words) >= _FEW_WORDS and first >= max(0.1 * len(words), 2 * second) else None


def _check_twins(candidate: str, active: str, rolled_back: Sequence[str]) -> Iterator[Refusal]:
    if same_text(candidate, active):
        yield Refusal("identical", candidate, "The prompt is the active one.")
    for text in rolled_back:
        if same_text(candidate, text):
            yield Refusal("rolled_back", candidate, "The prompt was tried before and rolled back.")
            return


def _short(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else f"{text[:limit]}..."
