"""Private details that can be told by their form: addresses of both kinds, numbers of phones, cards, accounts, keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from bindu.dspy.promptcheck.addresses import ADDRESS
from bindu.dspy.promptcheck.letters import PLAIN, SKELETON, fold

__all__ = ["Private", "find_private"]


@dataclass(frozen=True, slots=True)
class Private:
    """One private detail as it stands in a text; two of one ``key`` are the same, however they are written."""

    what: str
    text: str
    key: str


Found = tuple[int, int, str]  # start, end, key
Finder = Callable[[str], Iterator[Found]]


def find_private(text: str) -> Iterator[Private]:
    """Every private detail of the text, one for each place."""
    folded = fold(text, PLAIN)
    taken: list[tuple[int, int]] = []
    for what, finder in _FINDERS.items():
        for start, end, key in finder(folded.text):
            if not any(start < right and left < end for left, right in taken):
                taken.append((start, end))
                yield Private(what, folded.original(start, end), key)


def _compact(text: str) -> str:
    return "".join(_ALNUM.findall(text)).casefold()


def _first(*patterns: re.Pattern[str]) -> Finder:
    """A finder of all that one of the patterns finds."""

    def find(text: str) -> Iterator[Found]:
        for pattern in patterns:
            for found in pattern.finditer(text):
                yield *found.span(), _compact(found[0].translate(SKELETON))

    return find


# E-mail

_TLD: Final = (
    r"(?:com|org|net|edu|gov|info|biz|io|co|ai|app|dev|me|eu|uk|us|ca|au|nz|ie|in|de|at|ch|fr|es|it|pt|nl|be|lu|se|no|dk"
    r"|fi|pl|cz|sk|hu|ro|bg|gr|hr|si|rs|tr|ru|ua|jp|cn|kr|br|mx|ar|za|test|example)\b"
)
_DOT: Final = r"(?: ?\. ?| ?[\[({<] ?(?:dot|punkt|point|punto|ponto|\.) ?[\])}>] ?| (?:dot|punkt|point|punto|ponto) )"
_LOCAL: Final = r"(?<![\w.+-])[\w+%-]+(?:(?:\.| dot | punkt | underscore )[\w+%-]+){0,4}"
_AT: Final = r"(?: ?[\[({<] ?(?:at|@|ät|arroba|arobase|chez) ?[\])}>] ?|&#(?:64|x40);|&commat;|%40)"
_LABELS: Final = rf"[\w-]+(?:{_DOT}[\w-]+){{0,4}}?{_DOT}{_TLD}"
_SPOKEN: Final = "|".join(  # in one language: "at this point in" is no address
    rf"{at} [\w-]+(?: {dot} [\w-]+){{0,4}}? {dot} {_TLD}"
    for at, dot in (("at", "dot"), ("(?:ät|at)", "punkt"), ("arobase", "point"), ("arroba", "p[ou]nto"))
)
_MAIL: Final = (
    re.compile(r"\w[\w.+%'-]{0,63}(?<=[\w+])@[\w-]+(?:\.[\w-]+)*\.[^\W\d_]{2,}"),
    re.compile(rf"{_LOCAL} ?@ ?{_LABELS}", re.IGNORECASE),
    re.compile(rf"{_LOCAL}{_AT}{_LABELS}", re.IGNORECASE),
    re.compile(rf"{_LOCAL} (?:{_SPOKEN})", re.IGNORECASE),
    re.compile(rf"(?<![\w.])[A-Za-z]+[._][A-Za-z]\w* (?:at|ät|arroba|arobase) [\w-]+(?:\.[\w-]+)*?\.{_TLD}"),
)
_MAIL_WORDS: Final = re.compile(
    r"&#(?:64|x40);|&commat;|%40|\b(?:at|ät|arroba|arobase|chez|dot|punkt|point|punto|ponto)\b|\W", re.IGNORECASE
)
_NO_MAIL: Final = re.compile(r"git@(?:github|gitlab|bitbucket)\.")


def _mails(text: str) -> Iterator[Found]:
    for pattern in _MAIL:
        for found in pattern.finditer(text):
            if not _NO_MAIL.match(found[0]):
                yield *found.span(), _MAIL_WORDS.sub("", found[0]).casefold()


# Keys and passwords

_KEY: Final = (
    re.compile(
        r"\b(?:sk|pk|rk)[-_][\w-]{16,}|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[\w-]{30,}|\bgh[pousr]_\w{20,}"
        r"|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}|\bhf_\w{20,}|\bnpm_\w{20,}|\bxox[abeprs]-[\w-]{10,}"
        r"|\bSG\.[\w-]{16,}\.[\w-]{16,}|\beyJ[\w-]{10,}\.[\w-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    ),
    re.compile(r"\b(?=[A-Za-z]*\d)(?=\d*[A-Fa-f])[A-Fa-f0-9]{32,}\b"),
    re.compile(r"\b(?=\w*[a-z])(?=\w*[A-Z])(?=(?:[A-Za-z_]*\d+[A-Za-z_]+){3})\w{20,}\b"),  # digits in three places
    re.compile(r"://[^\s/:@]+:[^\s/@{}<>$]+@"),  # a password in an address
    re.compile(
        r"\b(?:password|passwort|kennwort|passcode|mot de passe|contraseña|senha|wachtwoord|api[ _-]?key|secret)\b"
        r"(?: (?:is|ist|est|es|lautet)|[:=])+ ?[\"'`]?(?=\S*[A-Za-z])(?=\S*\d)(?!\d+-)[^\s\"'`{}<>$]{6,}",
        re.IGNORECASE,
    ),
)


# Numbers: cards, accounts, phones

_ALNUM: Final = re.compile(r"[^\W_]+")
_DIGITS: Final = re.compile(r"\d+")
_CARD: Final = re.compile(r"(?<!\d)(?<!\d[.,])\d(?:[ ._/-]{0,2}\d){12,22}(?!\d)")
_ISSUED: Final = re.compile(  # by the big card companies
    r"4\d{12}(?:\d{3}){0,2}|5[0-8]\d{14}(?:\d{3})?|2[2-7]\d{14}|3[47]\d{13}|3(?:0[0-5]|[689]\d)\d{11}|35\d{14}|6\d{15}(?:\d{3})?"
)


def _cards(text: str) -> Iterator[Found]:
    for found in _CARD.finditer(text):
        groups = [one.span() for one in _DIGITS.finditer(text, *found.span())]
        for first, (start, _) in enumerate(groups):
            for _, end in reversed(groups[first:]):
                number = "".join(_DIGITS.findall(text[start:end]))
                apart = end - start > len(number) and any(right - left == 1 for left, right in groups)
                listed = apart and any(right - left > 1 for left, right in groups)  # 7, 8, 9, 10, 11
                decimals = text[max(0, start - 1) : start] in (".", ",")
                if _ISSUED.fullmatch(number) and _luhn(number) and not listed and not decimals:
                    yield start, end, number
                    break


def _luhn(number: str) -> bool:
    digits = [int(character) for character in number]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


_IBAN: Final = re.compile(r"(?<![^\W_])([A-Z]{2})(\d{2})((?:[ -]?[A-Z0-9]){11,32})", re.IGNORECASE)
_IBAN_LENGTHS: Final = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FO GL NL", 19: "MK SI", 20: "AT BA EE KZ LT LU XK", 21: "CH HR LI LV",
        22: "BG DE GB GE IE ME RS BH VA", 23: "AE GI IL TL IQ", 24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "PT",
        26: "IS TR", 27: "FR GR IT MC SM", 28: "AL AZ CY DO HU LB PL GT BY", 29: "BR EG PS QA UA", 30: "JO KW MU",
        31: "MT SC",
    }.items()
    for country in countries.split()
}  # fmt: skip


def _ibans(text: str) -> Iterator[Found]:
    for found in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(found[1].upper(), 0)
        account = _compact(found[0]).upper()[:length]
        number = "".join(str(int(one, 36)) for one in account[4:] + account[:4])
        if length and len(account) == length and int(number) % _IBAN_MODULUS == 1:
            yield found.start(), _end_of(found, length), account


_IBAN_MODULUS: Final = 97


def _end_of(found: re.Match[str], length: int) -> int:
    """Where its first ``length`` letters and digits end."""
    places = [one.end() for one in re.finditer(r"[^\W_]", found[0])]
    return found.start() + places[length - 1]


_APART: Final = r"[ ()./-]{0,3}"
_PHONE: Final = (
    re.compile(rf"(?<![\w./-])(?:\+ ?|00)[1-9](?:{_APART}\d){{7,14}}(?!\w)"),
    re.compile(r"(?<![\w.])\((?!(?:19|20)\d\d\))\d{2,5}\) ?[/-]? ?\d(?:[ ./-]{0,2}\d){4,9}(?!\w)"),
    re.compile(r"(?<![\w.,:+/-])0(?!0)\d{1,5}(?: ?[ ./-] ?\d{2,8}){1,5}(?!\w)"),
    re.compile(r"(?<![\w.,:+/-])0(?!0)\d{8,12}(?!\w)"),
    re.compile(r"(?<![\w./-])\d{3}[ .-]\d{3}[ .-]\d{4}(?![\w-])"),
    re.compile(
        r"\b(?:(?:tele)?phone|tel|call|ring|dial|whatsapp|sms|fax|hotline|(?:mobile|cell) (?:number|no|phone)"
        r"|telefon\w*|handy(?:nummer)?|rufnummer|mobilnummer|ruf|téléphone|appele[rz]|teléfono|llam[ae]r?|telefono|telefone|telefoon)"
        r"\b\W{0,3}(?:(?:me|us|him|her|number|no|nr|is|at|on|under|unter|an)\b\W{1,3}){0,3}"
        rf"(?P<number>\d(?:{_APART}\d){{6,14}})(?!\w)",
        re.IGNORECASE,
    ),
)
_PHONE_DIGITS: Final = 7
_LOCAL_DIGITS: Final = 8  # +49 30 901820 is 030 901820
_NO_PHONE: Final = re.compile(
    r"[012]\d[0-5]\d ?- ?[012]\d[0-5]\d"  # opening hours
    r"|\d{1,2}[./-] ?\d{1,2}[./-] ?(?:19|20)\d\d|(?:19|20)\d\d-\d\d-\d\d"  # a date
    r"|\d{1,3}(?:\.\d{1,3}){3}"  # an IP address
    r"|\d{4}(?:-\d{4}|\.\d{4,5})"  # a journal, a paper
    r"|(?:0\d[ .-]?){4,}(?<=9)|0?1[ .-]0?2[ .-]0?3.*"  # 05 06 07 08 09
)
_COUNTED: Final = "01234567890123456789"
_DIGIT_WORDS: Final = re.compile(
    r"\b(?:(?:zero|oh|one|two|three|four|five|six|seven|eight|nine|null|eins|zwei|zwo|drei|vier|fünf|sechs|sieben|acht"
    r"|neun|zéro|un|deux|trois|quatre|cinq|sept|huit|neuf|cero|uno|dos|tres|cuatro|cinco|seis|siete|ocho|nueve"
    r"|double|triple)\b[ ,.-]*){7,}",
    re.IGNORECASE,
)


def _phones(text: str) -> Iterator[Found]:
    for pattern in _PHONE:
        for found in pattern.finditer(text):
            start, end = found.span("number" if "number" in pattern.groupindex else 0)
            number = "".join(_DIGITS.findall(text[start:end]))
            counted = (
                number in _COUNTED or number in _COUNTED[::-1] or len(set(number)) == 1 or set(number) == {"0", "1"}
            )
            if len(number) >= _PHONE_DIGITS and not counted and not _NO_PHONE.fullmatch(text[start:end]):
                yield start, end, number[-_LOCAL_DIGITS:]
    for found in _DIGIT_WORDS.finditer(text):
        yield *found.span(), _compact(found[0])


_SOCIAL_SECURITY: Final = re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")

_FINDERS: Final[dict[str, Finder]] = {  # in this order: part of a card's number may pass for a phone's
    "an e-mail address": _mails,
    "a key or a password": _first(*_KEY),
    "a bank account": _ibans,
    "a payment card": _cards,
    "a social security number": _first(_SOCIAL_SECURITY),
    "a postal address": _first(*ADDRESS),
    "a phone number": _phones,
}
