"""Postal addresses by their form: sure ones, and words with a number that are one if a customer wrote them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from bindu.dspy.promptcheck.letters import PLAIN, fold

__all__ = ["ADDRESS", "possible_addresses"]


def _any(words: str) -> str:
    return f"(?:{'|'.join(words.split())})".replace("_", " ")


_NAME: Final = r"[A-ZÀ-ÖØ-Þ][\w'-]{0,40}"
_NUMBER: Final = r"\d{1,4}(?: ?[a-zA-Z])?(?: ?[-/] ?\d{1,4}[a-z]?)?(?![\w%°€$]|[.,:]\d)"
_NUMBER_FIRST: Final = r"(?<![\w.,:/-])\d{1,5}[A-Za-z]?"

# Words for streets: those that leave no doubt, and those that have other meanings
_JOINED: Final = _any("straße strasse str[.] gasse allee chaussee straat gracht laan kade gatan vägen veien katu")
_APART: Final = _any("Straße Strasse Str[.] Gasse Allee Chaussee")
_JOINED_DOUBTFUL: Final = _any(
    "weg platz ring ufer damm steig pfad stieg hof markt berg graben plein singel dijk vej gade väg gata vei gate tie"
)
_APART_DOUBTFUL: Final = _any("Weg Platz Ring Ufer Damm")
_AT_THE: Final = r"(?:Am|An de[rn]|Auf de[rm]|Im|In der|Zum|Zur|Unter den)"
_ENGLISH: Final = _any(
    "Street Road Avenue Lane Boulevard Terrace Crescent Parkway Highway St[.] Rd[.] Ave[.] Blvd[.] Ln[.] Hwy[.] Pkwy[.]"
)
_ENGLISH_DOUBTFUL: Final = _any(
    "St Rd Ave Blvd Ln Hwy Pkwy Drive Dr Way Place Pl Court Ct Square Sq Close Circle Row Hill Trail Mews Grove Gardens"
)
_FRENCH: Final = _any("rue avenue av[.] boulevard bd[.]? impasse allée quai chemin place route square")
_FRENCH_OF: Final = r"(?:(?:de la|de l'|des|du|de|d'|la|le|les) ?)?"
_ROMANCE: Final = _any(
    "[Cc]alle C/ [Aa]venida Avda[.]? [Pp]laza [Pp]aseo [Cc]arrer [Vv]iale [Pp]iazza [Cc]orso [Rr]ua [Tt]ravessa"
    " [Pp]raça [Ll]argo [Uu]lica [Uu]l[.]"
)
_ROMANCE_OF: Final = r"(?:(?:de|del|della|da|do|dos|la|las|los|el|di|dei) )*"
_STATE: Final = _any(
    "A[KLRZ] C[AOT] D[CE] FL GA HI I[ADLN] K[SY] LA M[ADEINOST] N[CDEHJMVY] O[HKR] P[AR] RI S[CD] T[NX] UT"
    " V[AT] W[AIVY]"
)
_POSTCODE_WORD: Final = _any("postcode post_code postal_code zip_code plz postleitzahl code_postal código_postal")

ADDRESS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        rf"\b{_NAME}{_JOINED} ?(?:Nr\.? ?)?{_NUMBER}",  # Hauptstraße 5
        rf"\b{_NAME}[ -]{_APART} (?:Nr\.? ?)?{_NUMBER}",  # Berliner Straße 12
        rf"\b(?:{_NAME}{_JOINED_DOUBTFUL}|{_NAME} {_APART_DOUBTFUL}|{_AT_THE} {_NAME}) {_NUMBER},?\s+"
        rf"(?:[A-Z]{{1,2}}-)?\d{{4,5}} {_NAME}",  # Am Markt 3, 12345 Musterstadt
        rf"{_NUMBER_FIRST},? (?:[NSEW]\.? )?(?:{_NAME} ){{1,3}}{_ENGLISH}(?!\w)",  # 221B Baker Street
        rf"\b(?:{_NAME} ){{1,3}}(?:Street|Road|Avenue|Lane|Boulevard),? {_NUMBER}",  # Baker Street 221B
        rf"{_NUMBER_FIRST},? (?:[NSEW]\.? )?(?:{_NAME} ){{1,3}}{_ENGLISH_DOUBTFUL}\.?,? (?:[#\w. ]{{1,12}}, ?)?"
        rf"{_NAME}(?: {_NAME})?,? (?:{_STATE}\b|[A-Z]{{1,2}}\d)",  # 12 Oak Drive, Springfield, IL
        rf"{_NUMBER_FIRST}(?: ?(?:bis|ter))?,? (?i:{_FRENCH}) {_FRENCH_OF}{_NAME}",  # 12 bis, rue de la Paix
        rf"\b{_ROMANCE} {_ROMANCE_OF}{_NAME}(?: (?:\w{{1,40}} ){{0,3}}{_NAME})?(?: ?, ?| )(?:n[º°.r]?\.? ?)?{_NUMBER}",
        rf"\b[Vv]ia {_NAME}(?: {_NAME})?(?: ?, ?| ){_NUMBER},?\s+\d{{5}} {_NAME}",  # Via Roma 12, 00184 Roma
        r"(?i:\bP\.? ?O\.? ?Box \d+|\bPostfach \d[\d ]+|\bPostbus \d+|\bapartado(?: de correos)? \d+)",
        rf"(?<![\w-])(?:DE?-\d{{5}}|(?:CH|AT)-\d{{4}}) {_NAME}",  # D-12345 Musterstadt
        rf"\b{_NAME},? {_STATE},? \d{{5}}(?:-\d{{4}})?\b",  # Springfield, IL 62704
        r"\b(?:GIR 0AA|[A-Z]{1,2}\d[A-Z\d]? \d[ABD-HJLNP-UW-Z]{2})\b",  # SW1A 1AA
        r"\b[ABCEGHJ-NPR-TVXY]\d[A-Z] \d[A-Z]\d\b",  # K1A 0B1
        rf"(?i:\b{_POSTCODE_WORD}\b[:=]? (?:is |ist |est |es )?)\d{{4,5}}(?!\w)(?: {_NAME})?",  # PLZ 12345
    )
)

_POSSIBLE: Final = (
    re.compile(rf"\b(?:{_NAME}{_JOINED_DOUBTFUL}|{_NAME} {_APART_DOUBTFUL}|{_AT_THE} {_NAME}) {_NUMBER}"),
    re.compile(
        rf"{_NUMBER_FIRST},? (?:[\w'.-]{{1,40}} ){{1,3}}(?:{_ENGLISH}|{_ENGLISH_DOUBTFUL})(?!\w)", re.IGNORECASE
    ),
    re.compile(rf"\b[\w-]{{1,40}}{_JOINED} {_NUMBER}", re.IGNORECASE),
    re.compile(rf"\b(?:{_ROMANCE}|via) (?:[\w']{{1,40}} ){{1,4}}?{_NUMBER}", re.IGNORECASE),
    re.compile(rf"(?<![\w.,])(?:[A-Z]{{1,2}}-)?\d{{3,5}}(?: \d\d|-\d{{3}}| ?[A-Z]{{2}},?)? {_NAME}"),  # 1010 Wien
)
_NO_PLACE: Final = re.compile(
    rf"(?:19|20)\d\d {_any('January February March April May June July August September October November December')}"
    rf"|(?:19|20)\d\d {_any('Januar Februar März Mai Juni Juli Oktober Dezember')}"
    rf"|\d+ {_any('Characters? Words? Euros? Dollars? Points? Zeichen Wörter Worte? Kunden Artikel Stück Tage Pixel')}",
    re.IGNORECASE,
)


def possible_addresses(text: str) -> Iterator[str]:
    """What is a street with a number, or a postcode with a place, if a customer wrote it, and else perhaps not."""
    folded = fold(text, PLAIN)
    for pattern in _POSSIBLE:
        for found in pattern.finditer(folded.text):
            if not _NO_PLACE.match(found[0]):
                yield folded.original(*found.span())
