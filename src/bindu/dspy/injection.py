"""Comments that speak to the machine instead of about an answer: whoever writes one does not teach. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from bindu.dspy.feedback import is_anonymous
from bindu.dspy.models import Interaction

__all__ = ["speaks_to_the_machine", "without_injections"]

_ORDERED: Final = r"(?:^|[.!?;:,(\[*>-] ?|\b(?:please|now|then|and|must|should|shall) )"  # where an order begins
_READER: Final = r"(?:judge|evaluator|grader|optimi[sz]er|reflector)"
_MODEL: Final = rf"(?:ai|llm|language model|assistant|{_READER})"
_EARLIER: Final = (
    r"(?:all|any|every|of|the|your|these|those|previous|prior|earlier|above|preceding|other|original|system)"
)
_LAWS: Final = r"(?:instructions?|rubric|rules?|prompts?|guidelines?)"
_FROM_NOW: Final = r"(?:always|never|you|your|ignore|every|from now|the assistant)\b(?! \w+s\b)"  # not: always crashes

_SIGNS: Final = tuple(
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        # the marks of DSPy's fields, of chat templates and of what stands around comments
        r"\[\[ ?## ?\w+ ?## ?\]\]",
        r"<\|\w+\|>|\[/?INST\]|<</?SYS>>",
        r"^ ?(?:</(?:comment|feedback|row|example|data|user|input|question|answer)s?>|<(?:system|instructions?)>)",
        r"^\W{3,6}end of (?:the )?(?:comments?|feedback|data|input|rows?|examples?)\b",
        # our JSON
        r"[\"'](?:critique|task_ids|new_instruction|module_advice|proposed_instruction)[\"'] ?:",
        r"\A ?\{ ?\"score\" ?:",
        r"\A\W{1,4}role\" ?: ?\"(?:system|developer)\"",
        # roles and new laws
        rf"^\W{{0,5}}(?:system|developer|(?<=# )instructions?)(?: (?:prompt|message))?\W{{1,4}}{_FROM_NOW}",
        r"^\W{0,5}(?:assistant|ai) ?:.{0,80}\b(?:(?:i will|i'll) (?:always|never)|from now on)\b",
        rf"\bnew (?:system )?(?:instructions?|prompt|rules?)\b.{{0,40}}?: ?{_FROM_NOW}",
        rf"{_ORDERED}(?:write|add|insert|append|include)\b.{{0,20}}\brules?\b"
        r"(?:.{0,30}\b(?:rubric|system prompt)\b|\W{1,3}always\b|.{0,10}\b(?:to|that|says?)\b.{0,30}\balways\b)",
        # old laws lifted
        rf"{_ORDERED}(?:ignore|disregard|forget|override|bypass)(?:\W{{1,5}}{_EARLIER}){{1,6}}"
        rf"\W{{1,5}}{_LAWS}\b(?! of\b)",
        rf"{_ORDERED}(?:ignore|disregard|forget)(?: everything| all| anything)?(?: the)? above\b",
        rf"\b(?:do not|don't) (?:follow|obey)(?: {_EARLIER}){{0,3}} (?:previous|prior|earlier|system) {_LAWS}\b",
        rf"\b(?:do not|don't) (?:follow|obey)(?: {_EARLIER}){{0,3}} {_LAWS} (?:above|before|you (?:have|were))\b",
        r"\b(?:ignoriere|ignorieren sie|vergiss|ignore[zr]?|oublie[zr]?|ignora|olvida|dimentica)\b"
        r"(?!.{0,40}\b(?:meine|mes|mis|mie)\b).{0,30}\b(?:alle|vorherig\w+|bisherig\w+|toutes|précédent\w+|todas|"
        r"anterior\w+|tutte|precedenti)\b.{0,30}\b(?:anweisungen|regeln|instructions|consignes|instrucciones|reglas|"
        r"istruzioni)\b",
        # whom it speaks to, and whom that shall be
        rf"^\W{{0,5}}(?:note|message|instructions?) (?:to|for) (?:the |any |every )?{_MODEL}\b.{{0,30}}:",
        rf"\b(?:attention|to),? (?:the |any |every )?{_MODEL}\b(?: (?:reading|judging|processing)\b.{{0,20}})?:",
        rf"\bas (?:the|an?) {_READER},? you (?:must|should|have to|will)\b",
        r"\byou are now an? (?!(?:\w+ ){0,2}(?:great|good|better|nice)\b).{0,30}"
        rf"\b(?:{_MODEL}|agent|bot|model)\b",
        rf"\bfrom now on,? you (?:are|act as) .{{0,30}}\b{_MODEL}\b",
        rf"{_ORDERED}(?:act as|pretend (?:to be|(?:that )?you are)) (?:the|an?) (?:\w+ ){{0,2}}{_MODEL}\b",
    )
)
_UNSEEN: Final = re.compile(r"[\u00ad\u200b-\u200f\u2060\ufeff]")
_SPACE: Final = re.compile(r"\s+")


def speaks_to_the_machine(comment: str) -> bool:
    """Whether a comment carries the marks of an instruction to a model: roles, field markers, JSON of ours, orders.

    A sieve against the clumsy: a plain demand ("always mention the sale") passes, and is weighed against all others'
    ratings instead. Complaints that instructions were ignored and talk about prompts, rules and JSON pass as well.
    """
    seen = _SPACE.sub(lambda gap: "\n" if "\n" in gap[0] else " ", _UNSEEN.sub("", comment))
    return any(sign.search(seen) for sign in _SIGNS)


def without_injections(rows: Sequence[Interaction]) -> list[Interaction]:
    """Leave out every row of a known rater who ever wrote such a comment, and anonymous rows with one. Keeps order."""
    injected = [row for row in rows if any(map(speaks_to_the_machine, row.comments))]
    untrusted = {rater for row in injected for rater in row.raters if not is_anonymous(rater)}
    gone = {(row.id, row.window) for row in injected}
    return [row for row in rows if (row.id, row.window) not in gone and untrusted.isdisjoint(row.raters)]
