"""Which comments led to which line of a prompt: through the rubric's rules, by the words that they share. Pure."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final

from bindu.dspy.models import JsonObject
from bindu.dspy.promptcheck import SPACELESS
from bindu.dspy.promptcheck.languages import SMALL_WORDS
from bindu.dspy.rubric import Rubric, RubricRule

__all__ = ["LineOrigin", "lineage"]

ALIKE: Final = 0.34  # Dice's coefficient of two sentences' stems from which one says what the other says
MOST_COMMENTS: Final = 3
LONGEST_COMMENT: Final = 200  # characters

_SENTENCE: Final = re.compile(r"(?<=[.!?;])(?<!e\.g\.)(?<!i\.e\.)(?<!z\.B\.)(?:[\"')\]]*)\s+|(?<=[。！？；])")  # noqa: RUF001
_LIST_MARK: Final = re.compile(r"^\s*(?:#+|>|[-*+\u2022]|\(?(?:\d{1,3}|[A-Za-z])[.):])\s+")
_WORD: Final = re.compile(rf"[^\W_{SPACELESS[1:-1]}]+|{SPACELESS}+")
_SPACELESS: Final = re.compile(SPACELESS)


def _split(words: str) -> list[str]:
    return words.split()


_COMMON: Final = frozenset().union(*SMALL_WORDS.values()) | frozenset(  # what any rule may say of any answer
    _split(
        """a about add after all also always answer answers any anything ask asking assistant avoid before customer
        customers did do does else every explain get give has have how include includes including keep leave leaves
        make mention mentions must name need needs never no only out put refer replies reply respond response responses
        say says should so some something state states tell tells than them there these those use user users uses was
        were what when which who will without would write"""
    )
)
_SUFFIXES: Final = _split(
    """ations ation ements ement ingly edly ising izing ises izes ised ized ise ize ings ing ies ied ers ally ness less
    ful est ed er es en em ly s e y"""
)
_SHORTEST_STEM: Final = 3


@dataclass(frozen=True, slots=True)
class LineOrigin:
    """A new line of a prompt, the rule that a sentence of it resembles, and what those said who taught that rule."""

    line: str
    rule: str | None  # None when no rule is like any of its sentences
    task_ids: tuple[str, ...] = ()
    comments: tuple[str, ...] = ()

    def as_json(self) -> JsonObject:
        """What the run's record keeps."""
        return {
            "line": self.line,
            "rule": self.rule,
            "task_ids": list(self.task_ids),
            "comments": list(self.comments),
        }


def lineage(active: str, candidate: str, rubric: Rubric, comments: Mapping[str, Sequence[str]]) -> list[LineOrigin]:
    """For each line that the candidate adds or changes, the rules that its new sentences most resemble.

    A line of several sentences can have several origins, one that no rule resembles has one without a rule, and one
    that says nothing new, because it was moved or wrapped, has none. Resemblance is Dice's coefficient of the stems of
    words, small words aside, and has to reach ALIKE. ``comments`` are by task id; of those behind a rule at most
    MOST_COMMENTS are shown, the likest first, each cut to LONGEST_COMMENT characters.
    """
    lines = candidate.splitlines()
    new = set(_new_lines(active.splitlines(), lines))
    known = {_words(sentence) for _, sentence in _sentences(active.splitlines())}
    rules = [(rule, _stems(rule.text)) for rule in rubric.rules]
    taught: dict[int, dict[RubricRule | None, None]] = {}
    for places, sentence in _sentences(lines):
        if _words(sentence) not in known:
            for place in new.intersection(places):
                taught.setdefault(place, {})[_nearest(_stems(sentence), rules)] = None
    return [
        _origin(lines[place].strip(), rule, comments)
        for place in sorted(taught)
        for rule in taught[place]
        if rule is not None or len(taught[place]) == 1
    ]


def _new_lines(before: Sequence[str], after: Sequence[str]) -> Iterator[int]:
    """The places of lines that are not among the earlier ones; white space makes no difference.

    A line said again is none: difflib would count it, but it has no new sentence, and thousands of them take minutes.
    """
    old = {" ".join(line.split()) for line in before}
    for place, line in enumerate(after):
        if line.strip() and " ".join(line.split()) not in old:
            yield place


def _sentences(lines: Sequence[str]) -> Iterator[tuple[range, str]]:
    """Each sentence with the places of the lines it stands in; a line that begins small goes on with the one before."""
    starts = [place for place, line in enumerate(lines) if not (place and lines[place - 1].strip() and _goes_on(line))]
    for first, last in pairwise([*starts, len(lines)]):
        plain = [f"{_LIST_MARK.sub('', line).strip()} " for line in lines[first:last]]
        paragraph, begins = "".join(plain), list(accumulate(map(len, plain), initial=0))
        ends = {found.end() for found in _SENTENCE.finditer(paragraph)}
        for start, end in pairwise(sorted({0, *ends, len(paragraph)})):
            sentence = paragraph[start:end].strip()
            if sentence:
                places = range(bisect_right(begins, start) - 1, bisect_left(begins, end))
                yield range(first + places.start, first + places.stop), sentence


def _goes_on(line: str) -> bool:
    return line.strip()[:1].islower() and not _LIST_MARK.match(line)


def _nearest(stems: frozenset[str], rules: Sequence[tuple[RubricRule, frozenset[str]]]) -> RubricRule | None:
    alike = [
        (2 * len(stems & other) / (len(stems) + len(other) or 1), -place) for place, (_, other) in enumerate(rules)
    ]
    most, place = max(alike, default=(0.0, 0))
    return rules[-place][0] if most >= ALIKE else None


def _origin(line: str, rule: RubricRule | None, comments: Mapping[str, Sequence[str]]) -> LineOrigin:
    if rule is None:
        return LineOrigin(line, None)
    wanted = _stems(rule.text)
    said = dict.fromkeys(" ".join(one.split()) for task_id in rule.task_ids for one in comments.get(task_id, ()))
    likest = sorted(filter(None, said), key=lambda one: -len(wanted & _stems(one)))[:MOST_COMMENTS]
    return LineOrigin(line, rule.text, rule.task_ids, tuple(map(_cut, likest)))


def _cut(comment: str) -> str:
    return comment if len(comment) <= LONGEST_COMMENT else f"{comment[: LONGEST_COMMENT - 1].rstrip()}\u2026"


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(_plain(text)))


def _plain(text: str) -> str:
    """Without letter case and accents."""
    apart = unicodedata.normalize("NFKD", text.casefold())
    return "".join(one for one in apart if not unicodedata.combining(one))


def _stems(text: str) -> frozenset[str]:
    """The words that carry meaning, without endings; of scripts without spaces every pair of characters."""
    stems: set[str] = set()
    for word in _WORD.findall(text.casefold()):
        if _SPACELESS.match(word):
            stems.update(map("".join, pairwise(word)))
        elif word not in _COMMON:
            stems.add(_stem(_plain(word)))
    return frozenset(stems)


def _stem(word: str) -> str:
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= _SHORTEST_STEM:
            return word.removesuffix(suffix)
    return word
