"""The names by which customers introduce themselves or sign, and where a prompt repeats one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from bindu.dspy.promptcheck.letters import PLAIN, SKELETON, fold

__all__ = ["repeated_names"]

Name = tuple[str, ...]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _either(words: str) -> str:
    return "|".join(words.split()).replace("_", " ")


def _any(words: str) -> str:
    return f"(?:{_either(words)})"


_WORD: Final = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
_NEXT_WORD: Final = re.compile(r" *([^\W\d_]+(?:['-][^\W\d_]+)*)\.?(?=\W|\Z)")
_PARTICLES: Final = _words("van von de der den da del della di la le dos bin al ter zu")
_MOST_WORDS: Final = 4
_SHORT: Final = 3  # letters of a part of a name that is looked for by itself, at least

_SAYS_NAME: Final = (
    "my_(?:full_|first_|last_)?name(?:'?s|_is) i_am_called mein_name_ist ich_hei(?:ß|ss)e je_m'appelle mon_nom_est"
    " me_llamo mi_nombre_es mi_chiamo il_mio_nome_è meu_nome_é me_chamo chamo-me mijn_naam_is ik_heet jag_heter"
    " mitt_namn_är jeg_heter mit_navn_er nazywam_się mam_na_imię меня_зовут мене_звати \\nname"
)
_IS: Final = "this_is i_am i'm hier_ist hier_spricht ich_bin ici c'est je_suis soy sono call_me"
_INTRODUCTION: Final = re.compile(rf"(?<!\w)(?:({_either(_IS)})|{_either(_SAYS_NAME)}) ?:? ?(?=[^\W\d_])")
_INTRODUCED_IN: Final = (  # a text without one of these introduces nobody; faster than the expression
    "name", "called ", "ich ", "m'appelle ", "nom est ", "llamo ", "chiamo ", "nome ", "chamo", "naam is ", "heet ",
    "heter ", "namn ", "navn ", "nazywam ", "imię ", "зовут ", "звати ", "nombre ", "this is ", "i am ", "i'm ",
    "hier ", "ici ", "c'est ", "je suis ", "soy ", "sono ", "call me ",
)  # fmt: skip
_GREETS: Final = _any("hi hello hey good_(?:morning|day|evening|afternoon) hallo guten_tag bonjour hola ciao")
_GREETED: Final = re.compile(rf"(?:\b{_GREETS}\b[^.?\n]{{0,30}}|\A\s*)\Z")
_GREETING: Final = 50  # characters that one takes at most
_ENDS: Final = re.compile(r" *(?:[,.;\n-]|\Z)| +(?:and|from|with|und|aus|et|y|e)\b")
_SPEAKS: Final = re.compile(r",? +(?:here|speaking|calling|writing|again|am apparat|à l'appareil|al habla)\b")
_FAREWELL: Final = _any(
    "regards thanks(?:_a_lot|_in_advance|_so_much)? thank_you(?:_very_much|_so_much|_in_advance)? cheers sincerely best"
    " wishes yours love greetings gr(?:ü|ue)(?:ß|ss)en? gru(?:ß|ss) lg mfg vg danke(?:_sch(?:ö|oe)n)? merci saludos"
    " cordialement salutations atentamente gracias saluti grazie cumprimentos obrigad[oa] groet(?:en|jes)? hilsen"
    " hälsningar pozdrawiam dziękuję уважением спасибо"
)
_FAREWELL_ABOVE: Final = re.compile(rf"\b{_FAREWELL}\W{{0,3}}\Z", re.IGNORECASE)
_FAREWELL_BEFORE: Final = re.compile(rf"\b{_FAREWELL} ?[,.!-]+ ?(?=[^\W\d_][^,.!?]*[.!]?\Z)", re.IGNORECASE)
_SIGNED: Final = re.compile(r"(?P<dash>[-~]+ ?)?(?=[^\W\d_])")
_ASIAN: Final = re.compile(
    r"(?:我叫|我的名字[是叫])(?P<zh>[\u4e00-\u9fff]{2,3})(?![\u4e00-\u9fff])"
    r"|(?P<ja>[\u30a0-\u30ff\u4e00-\u9fff]{2,6})と(?:申し|いい)ます"
    r"|이름은 ?(?P<ko>[\uac00-\ud7a3]{2,4}?)(?:입니다|이에요|예요|이고)"
)
_ASIAN_IN: Final = ("我叫", "我的名字", "ます", "이름은")

# No names, although they may follow "my name is"
_NO_NAME: Final = _words(
    """a an and are as at back but by correct for from had has have here i in is it its listed misspelled missing my no
    not now of on or please printed really registered she he so spelled spelt still that the there they this to under
    very was we wrong with you und ist nicht auf im falsch et est pas sur y no en es mal sir madam customer support
    team thank thanks sent"""
)
# Names that mean something else as well, and what else has a capital
_AMBIGUOUS: Final = _words(
    """january february march april may june july august september october november december monday tuesday wednesday
    thursday friday saturday sunday english german french spanish italian portuguese dutch swedish danish norwegian
    finnish polish czech russian ukrainian turkish greek arabic hebrew hindi chinese japanese korean american british
    canadian australian irish scottish austrian swiss belgian indian mexican brazilian european african asian germany
    france spain italy portugal england scotland ireland austria switzerland belgium poland russia ukraine turkey
    greece israel india china japan korea america canada mexico brazil australia africa europe asia london berlin paris
    rome madrid vienna boston austin dallas houston phoenix sydney jordan georgia chelsea florence victoria charlotte
    madison virginia carolina brooklyn lincoln washington jackson jefferson hamilton will mark grace hope joy rose bill
    frank art chase grant price rich sue pat drew dawn faith guy jack miles max christian summer autumn winter young
    king queen long small short brown green black white gray baker cook carter miller smith mason parker potter taylor
    turner walker hunter fisher bishop dean duke earl lord prince page case cash sterling gene ray rob nick dick robin
    sandy ruby pearl amber ginger olive violet lily daisy iris ivy heather holly basil sage penny carol eve star sky
    destiny crystal jade melody harmony charity patience prudence lane ford wolf stein berg klein gross lang kurz jung
    koch bauer richter kaiser herzog vogel fuchs sommer ernst rosa alexa siri cortana claude gemini watson apple amazon
    google microsoft samsung sony tesla mercedes python java julia swift ada dear urgent help hello sorry yes none"""
)
_TITLES: Final = _words(
    """mr mrs ms miss dr prof sir madam dear customer client user named called signed herr frau monsieur madame señor
    señora signor signora kunde kundin"""
)


def repeated_names(candidate: str, active: str, customer_texts: Iterable[str]) -> list[str]:
    """Names of customers that stand in the candidate and not in the active prompt, as they stand there.

    Seen are names after words such as "my name is", "Hi, this is" and "ich heiße", and signatures: a last line of a few
    words with capitals, or what follows "Kind regards". The whole name counts in any letter case, and each part of it
    that has three letters or more where it has a capital. A part that means something else as well (May, Will, German),
    or that is written small more often than not, counts only after a title or within the whole name. Not seen are names
    that nobody introduced, nicknames, initials, and introductions in languages but some fifteen.
    """
    folded = fold(candidate, PLAIN)
    texts = [text.translate(PLAIN) for text in customer_texts]
    names = {name for text in texts for name in _introduced(text)}
    words = list(_WORD.finditer(folded.text))
    keys = [_key(word[0]) for word in words]
    own = set(map(_key, _WORD.findall(active.translate(PLAIN))))
    spans = [
        (words[first].start(), words[first + len(name) - 1].end())
        for name in names
        for first in _places(tuple(map(_key, name)), keys)
        if not own.issuperset(keys[first : first + len(name)])
    ]
    parts = {_key(part): part for name in names for part in name if len(part) >= _SHORT and part not in _PARTICLES}
    small = {key for key, word in zip(keys, words, strict=True) if word[0].islower()}
    ordinary = {key for key in parts.keys() & set(keys) if key in small or _is_ordinary(parts[key], texts)}
    for place, word in enumerate(words):
        titled = place > 0 and words[place - 1][0].casefold() in _TITLES
        found = keys[place] in parts and keys[place] not in own and not word[0].islower()
        if found and (titled or keys[place] not in ordinary):
            spans.append(word.span())
    asian = {name for text in texts for name in _in_asian(text)}
    spans += [found.span() for name in asian for found in re.finditer(name, folded.text) if name not in active]
    return list(dict.fromkeys(folded.original(*span) for span in _outermost(spans)))


def _places(wanted: Name, keys: list[str]) -> Iterator[int]:
    """Where the whole of a name of several words stands."""
    if len(wanted) > 1 and wanted[0] in keys:
        for first, key in enumerate(keys):
            if key == wanted[0] and tuple(keys[first : first + len(wanted)]) == wanted:
                yield first


def _is_ordinary(part: str, texts: list[str]) -> bool:
    """Whether a word that may be part of a name is often something else."""
    if part.casefold() in _AMBIGUOUS:
        return True
    if part.islower():  # so introduced: how often others write it small says nothing
        return False
    small, capital = (
        sum(len(re.findall(rf"\b{re.escape(form)}\b", text)) for text in texts if form in text)
        for form in (part.lower(), part)
    )
    return small > capital


def _introduced(text: str) -> Iterator[Name]:
    """The names that a message gives its writer."""
    yield _signature(text)
    text = f"\n{text}"
    lower = text.replace("\u0130", "I").lower()  # the one letter that is two when it is small
    if not any(word in lower for word in _INTRODUCED_IN):
        return
    for found in _INTRODUCTION.finditer(lower):
        is_here = found[1] is not None
        name, end = _read(text, found.end(), small=not is_here)
        before = lower[max(0, found.start() - _GREETING) : found.start()]
        greeted = _GREETED.search(before) and (len(name) > 1 or _ENDS.match(lower, end))
        if not is_here or greeted or _SPEAKS.match(lower, end):
            yield name


def _read(text: str, start: int, *, small: bool = False) -> tuple[Name, int]:
    """The words from ``start`` on that can be a name, and where they end.

    ``small`` takes one without a capital, and a second one where the sentence ends or goes on with "and".
    """
    name: list[str] = []
    end = start
    while len(name) < _MOST_WORDS and (word := _NEXT_WORD.match(text, end)) is not None:
        plain = word[1].casefold()
        particle = bool(name) and plain in _PARTICLES
        allowed = small and (not name or (len(name) == 1 and name[0].islower() and _ENDS.match(text, word.end(1))))
        if plain in _NO_NAME or not (particle or allowed or not word[1].islower()):
            break
        name.append(word[1])
        end = word.end(1)
    while name and name[-1] in _PARTICLES:
        name.pop()
    return tuple(name), end


def _signature(text: str) -> Name:
    """The name on the last line: after a farewell, after a dash, or alone below a finished sentence."""
    *above, last = [line.strip() for line in text.strip().splitlines()] or [""]
    farewell = _FAREWELL_BEFORE.search(last)
    if farewell is not None:
        return _whole(last, farewell.end())
    signed = _SIGNED.match(last)
    if signed is None or not above:
        return ()
    alone = not above[-1] or above[-1][-1] in ".!?,"
    return _whole(last, signed.end()) if signed["dash"] or alone or _FAREWELL_ABOVE.search(above[-1]) else ()


def _whole(line: str, start: int) -> Name:
    """The name that is all of the line from ``start`` on."""
    name, end = _read(line, start)
    return name if not line[end:].strip(".,! ") else ()


def _in_asian(text: str) -> Iterator[str]:
    if any(word in text for word in _ASIAN_IN):
        for found in _ASIAN.finditer(text):
            yield next(filter(None, found.groups()))


def _outermost(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Those that lie in no other, from left to right."""
    last = -1
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if end > last:
            yield start, end
            last = end


def _key(word: str) -> str:
    return "".join(filter(str.isalnum, word.translate(SKELETON)))
