"""The rules, each with the words that broke it.

What tells a copy is in ``copies``, a name in ``names``, a private detail by its form in ``privacy`` and ``addresses``,
a language in ``languages``, a hidden character in ``letters``.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from bindu.dspy.promptcheck.addresses import possible_addresses
from bindu.dspy.promptcheck.base import Refusal
from bindu.dspy.promptcheck.copies import COPY_CHARACTERS, COPY_WORDS, copied_codes, copied_run, repeats
from bindu.dspy.promptcheck.languages import foreign_part
from bindu.dspy.promptcheck.letters import SKELETON, hidden_runs, printable
from bindu.dspy.promptcheck.names import repeated_names
from bindu.dspy.promptcheck.privacy import find_private
from bindu.dspy.promptcheck.regions import kept_spans
from bindu.dspy.promptcheck.tokens import estimate_tokens, tokens_end

__all__ = ["refusals"]

_VARIABLE: Final = re.compile(
    r"\{%.{0,1000}?%\}"  # {% if x %}
    r"|\{\{\{?[-~#/^>&!@$]?\s*[A-Za-z_][^{}]*\}\}\}?"  # {{ x }}, {{ user.name | upper }}, {{#each x}}
    r"|\{[A-Za-z_][\w.]*(?:\[[^\[\]{}\s]*\])*(?:![rsa])?(?::[^{}\s]*)?\}"  # {x}, {user.name}, {items[0]}, {x:>10}
    r"|(?<![\w\])}.*+?])\{\d\}"  # {0}, but not a{2}
    r"|\$\{?[A-Za-z_]\w*\}?"  # $x, ${x}
    r"|%\([A-Za-z_]\w*\)[-+ #0]?\d*(?:\.\d+)?[sdfrxi]"  # %(x)s
    r"|<%.{0,1000}?%>|#\{[A-Za-z_][^{}]*\}"  # <%= x %>, #{x}
    r"|\[\[\s*[A-Za-z_][\w.]*\s*\]\]|<<\s*[A-Za-z_][\w.]*\s*>>",  # [[x]], <<x>>
    re.DOTALL,
)
_LATEX: Final = re.compile(r"\\[A-Za-z]+\*?(?:\[[^\]\n]*\])?(?:\{[^{}\n]*\})+|(?<=[\w)\]}])[\^_]\{[^{}\n]*\}")
_NESTED: Final = 3  # braces of a formula
_LOOSE_SPACE: Final = re.compile(r"(?<!\w)\s+|\s+(?!\w)")
_MAX_CHARACTERS: Final = 16_000
_MAX_TOKENS: Final = 6_000  # as estimated, which 16,000 characters of English do not reach and 3,700 of Chinese do
_MAX_GROWTH: Final = 1.5  # of an active prompt that is already longer than that
_TWIN_WORD: Final = re.compile(r"[^\W_]+|[<>=%$€£+\u2190-\u21ff\u2600-\u27bf\U0001f000-\U0001faff]")


def refusals(
    candidate: str, active: str, *, seen: Sequence[str], customers: Sequence[str], rolled_back: Sequence[str]
) -> Iterator[Refusal]:
    """What ``check_prompt`` lists; ``seen`` is all that the optimizer saw."""
    yield from _check_protected(candidate, active)
    yield from _check_variables(candidate, active)
    yield from _check_length(candidate, active)
    yield from _check_copied(candidate, active, seen)
    yield from _check_private(candidate, active)
    yield from _check_customers(candidate, active, customers)
    yield from _check_language(candidate, active)
    yield from _check_characters(candidate, active)
    yield from _check_twins(candidate, active, rolled_back)


def _check_protected(candidate: str, active: str) -> Iterator[Refusal]:
    """The regions between keep marks and the marks themselves are those of the active prompt, in their order."""
    have, want = _regions(candidate), _regions(active)
    if have == want:
        return
    lost, new = Counter(want) - Counter(have), Counter(have) - Counter(want)
    for region in lost:
        yield Refusal("protected", region, f"A region between keep marks was changed or lost: {printable(region)}")
    for region in new:
        if region in want:
            reason = f"A region between keep marks stands there more often than before: {printable(region)}"
        elif not lost:
            reason = f"A keep mark is new, and only people may set one: {printable(region)}"
        else:
            continue  # what a lost one was changed into
        yield Refusal("protected", region, reason)
    if not lost and not new:
        moved = next(one for one, other in zip(have, want, strict=True) if one != other)
        yield Refusal("protected", moved, f"The regions between keep marks changed their order: {printable(moved)}")


def _regions(text: str) -> list[str]:
    return [text[start:end] for start, end in kept_spans(text)]


def _check_variables(candidate: str, active: str) -> Iterator[Refusal]:
    have, want = _variables(candidate), _variables(active)
    for name in sorted(want.keys() - have.keys()):
        yield Refusal("variables", want[name], f"The template variable {want[name]} was lost.")
    for name in sorted(have.keys() - want.keys()):
        reason = f"The template variable {have[name]} is new, so nobody would fill it in."
        yield Refusal("variables", have[name], reason)


def _variables(text: str) -> dict[str, str]:
    """Each as it stands, by what it is: {{ name }} is {{name}}."""
    for _ in range(_NESTED):  # from within
        text = _LATEX.sub("", text)
    return {_LOOSE_SPACE.sub("", found): found for found in _VARIABLE.findall(text)}


def _check_length(candidate: str, active: str) -> Iterator[Refusal]:
    budget = max(_MAX_CHARACTERS, int(_MAX_GROWTH * len(active)))
    if len(candidate) > budget:
        reason = f"The prompt has {len(candidate):,} characters and the budget is {budget:,}."
        yield Refusal("length", candidate[budget:], reason)
    tokens, most = estimate_tokens(candidate), max(_MAX_TOKENS, int(_MAX_GROWTH * estimate_tokens(active)))
    if tokens > most:
        reason = f"The prompt has some {tokens:,} tokens and the budget is {most:,}."
        yield Refusal("length", candidate[tokens_end(candidate, most) :], reason)


def _check_copied(candidate: str, active: str, texts: Sequence[str]) -> Iterator[Refusal]:
    copy = copied_run(candidate, active, texts)
    if copy is not None:
        length = f"{COPY_WORDS} words" if copy.in_words else f"{COPY_CHARACTERS} characters"
        reason = f"{length} in a row stand in a conversation that the optimizer saw: {printable(copy.text)}"
        yield Refusal("copied", copy.text, reason)


def _check_private(candidate: str, active: str) -> Iterator[Refusal]:
    """What is private by its form."""
    known = {one.key for one in find_private(active)}
    for one in find_private(candidate):
        if one.key not in known:
            known.add(one.key)
            reason = f"The prompt contains {one.what} that the active one does not: {printable(one.text)}"
            yield Refusal("private", one.text, reason)


def _check_customers(candidate: str, active: str, customers: Sequence[str]) -> Iterator[Refusal]:
    """What is private because a customer wrote it."""
    if not customers:
        return
    addresses = [one for one in possible_addresses(candidate) if not repeats(one, [active]) and repeats(one, customers)]
    for what, found in {
        "a number or code": copied_codes(candidate, active, customers),
        "an address": addresses,
        "the name": repeated_names(candidate, active, customers),
    }.items():
        for one in dict.fromkeys(found):
            yield Refusal("private", one, f"The prompt contains {what} of a customer: {printable(one)}")


def _check_language(candidate: str, active: str) -> Iterator[Refusal]:
    found = foreign_part(candidate, active)
    if found is not None:
        line, was, now = found
        yield Refusal("language", line, f"The prompt is in {was} and what is new in it in {now}: {printable(line)}")


def _check_characters(candidate: str, active: str) -> Iterator[Refusal]:
    """Hidden characters may stand there as often as in the active prompt."""
    left = Counter("".join(hidden_runs(active)))
    for run in hidden_runs(candidate):
        new = Counter(run) - left
        left -= Counter(run)
        if new:
            names = ", ".join(f"U+{ord(one):04X} {unicodedata.name(one, '')}".strip() for one in sorted(new)[:3])
            yield Refusal("characters", run, f"The prompt hides characters that the active one does not have: {names}.")


def _check_twins(candidate: str, active: str, rolled_back: Sequence[str]) -> Iterator[Refusal]:
    words = _twin_words(candidate)
    if words == _twin_words(active):
        yield Refusal("identical", candidate, "The prompt is the active one, but for its looks.")
    for text in rolled_back:
        if words == _twin_words(text):
            yield Refusal("rolled_back", candidate, "The prompt was tried before and rolled back.")
            return


def _twin_words(text: str) -> list[str]:
    """All that a twin shares: words and signs that mean something, not case, punctuation, accents and look-alikes."""
    return _TWIN_WORD.findall(text.translate(SKELETON)) or text.split()
