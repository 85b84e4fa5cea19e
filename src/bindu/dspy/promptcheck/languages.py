"""In which language a text is written, told by its script and its small words, and only where that is clear."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import Final

__all__ = ["SMALL_WORDS", "foreign_part", "language_of", "script_of"]

_WORD: Final = re.compile(r"[^\W\d_]+")
_QUOTED: Final = re.compile(
    '"[^"\n]*"|\u201c[^\u201d\n]*\u201d|\u201e[^\u201c\u201d"\n]*[\u201c\u201d"]|«[^»\n]*»|`[^`\n]*`'
)
_FEW_LETTERS: Final = 40
_DENSE: Final = frozenset({"Cjk", "Hiragana", "Katakana", "Hangul"})  # a letter says as much as two of others
_SAME_SCRIPT: Final = 0.9  # of the letters
_KANA: Final = 0.1  # of Japanese text at least; Chinese has none
_FEW_WORDS, _FEW_WORDS_OF_A_LINE = 20, 10
_FEW_HITS, _FEW_KINDS = 4, 3
_SHARE, _SHARE_OF_A_LINE = 0.1, 0.25  # of the words
_LEAD: Final = 2  # times as many as of any other language

SMALL_WORDS: Final = {
    name: frozenset(words.split())
    for name, words in {
        "English": "the and of to is you your with for not that this it be are if when they their what as in on an by",
        "German": "der die das und ist nicht sie den mit ein eine zu auf für wenn dem im von auch oder bei ihr er es"
        " wie dass uns kann",
        "French": "le la les et est des une vous votre pas pour dans que qui avec sur du ne si au ou en par sont ce il"
        " nous cette",
        "Spanish": "el la los las y es una que no para con por su del se lo si al cuando o más en un como",
        "Italian": "il la gli e è una che non per con di del si lo se al quando della sono o nel",
        "Portuguese": "o os a as e é uma que não para com por do da se ao quando você seu em ou",
        "Romanian": "și să nu este sunt pentru care când dacă din sau mai ce pe le fi lor iar prin ca",
        "Dutch": "de het een en is niet van je met voor dat op als zijn te ook aan bij uw of",
        "Swedish": "och att det är inte en ett som på för med av till om den du när eller kan ska",
        "Danish or Norwegian": "og at er ikke til af jeg deg dig hvis når skal eller være fra hvad hva også vil ved",
        "Finnish": "ja on ei se että jos kun mutta tai ovat hän voi mitä myös niin sen ole asiakas mukaan",
        "Polish": "i w na nie się z do jest że to o jak czy dla od po przez lub jeśli gdy są ich ma być",
        "Czech": "a se na je že v s do to pokud nebo jak když by pro ale co jeho si aby",
        "Hungarian": "a az és nem hogy is egy ha meg vagy de van mit kell akkor csak már mint ez ki",
        "Turkish": "ve bir bu için ile ne da de değil çok gibi daha ya eğer olan ama sonra kadar veya her",
        "Indonesian": "yang dan di untuk dengan tidak ini itu dari pada jika atau akan adalah ke anda dalam bisa",
        "Vietnamese": "và là của không có cho được một này với khi các nếu bạn để trong thì phải người",
        "Russian": "и в не на что с он как то это по если или для вы его от чтобы когда их ему ты все они о",  # noqa: RUF001
        "Ukrainian": "і в не на що з він як це до якщо або для ви його від щоб коли їх та ти йому",  # noqa: RUF001
        "Bulgarian": "и в не на че с той как това за ако или вие го от да когато ги са се му ще със при след",  # noqa: RUF001
        "Arabic": "في من على إلى أن لا ما هذا هو عن مع إذا أو التي الذي كل كان هي ثم",
        "Persian": "در از به که را با این است برای آن یا اگر شما می هم تا باید نه او بر",
        "Urdu": "کے میں کی ہے اور سے کا کو پر یہ نہیں کہ ہیں اگر یا نے بھی وہ آپ",
    }.items()
}

_LANGUAGES: Final = {  # of each small word; one of several languages says less for each
    word: [name for name, words in SMALL_WORDS.items() if word in words]
    for word in frozenset().union(*SMALL_WORDS.values())
}


def foreign_part(candidate: str, active: str) -> tuple[str, str, str] | None:
    """What is new in the candidate and in another language: a text, the active prompt's language, and its own.

    None unless the evidence is strong: the text is long enough, and each is clearly of one language. All that is new is
    one text, and so is each line of it; what stands in quotes does not count.
    """
    known = set(active.splitlines())
    lines = [line for line in candidate.splitlines() if line not in known and line.strip()]
    for spoken in (script_of, language_of):
        was = spoken(active) or spoken(active, is_line=True)
        if was is None:
            continue
        at_home = {was, *(spoken(line, is_line=True) for line in known), None}
        parts = [("\n".join(lines), False), *((line, True) for line in lines)]
        for (part, is_line), line in zip(parts, [max(lines, key=len, default=""), *lines], strict=True):
            now = spoken(_QUOTED.sub(" ", part), is_line=is_line)
            if now is not None and now not in at_home:
                return line, was, now
    return None


def script_of(text: str, *, is_line: bool = False) -> str | None:
    """The script that nine in ten of its letters have; Chinese and Japanese are told apart."""
    del is_line
    scripts: Counter[str] = Counter()
    for character, number in Counter(text).items():
        if character.isalpha():
            scripts[_script(character)] += number
    letters = scripts.total()
    weight = letters + sum(scripts[name] for name in _DENSE)
    kana, han = scripts.pop("Hiragana", 0) + scripts.pop("Katakana", 0), scripts.pop("Cjk", 0)
    if kana >= _KANA * (kana + han) > 0:
        scripts["Japanese"] = kana + han
    elif han >= _FEW_LETTERS:  # a shorter text may be Japanese by chance without kana
        scripts["Chinese"] = kana + han
    for name, number in scripts.most_common(1):
        if weight >= _FEW_LETTERS and number >= _SAME_SCRIPT * letters:
            return f"{name} script"
    return None


def _script(letter: str) -> str:
    return unicodedata.name(letter, "?").split()[0].split("-")[0].capitalize()


def language_of(text: str, *, is_line: bool = False) -> str | None:
    """The language whose small words are a good share of the text and twice as many as those of any other."""
    words = _WORD.findall(text.casefold())
    few, share = (_FEW_WORDS_OF_A_LINE, _SHARE_OF_A_LINE) if is_line else (_FEW_WORDS, _SHARE)
    if len(words) < few:
        return None
    found = Counter(word for word in words if word in _LANGUAGES)
    weights = dict.fromkeys(SMALL_WORDS, 0.0)
    for word, number in found.items():
        for name in _LANGUAGES[word]:
            weights[name] += number / len(_LANGUAGES[word])
    second, first = sorted(weights.values())[-2:]
    name = max(weights, key=weights.__getitem__)
    told = {word: number for word, number in found.items() if name in _LANGUAGES[word]}
    clear = [word for word in told if len(word) > 1 or not word.isascii()]  # x, i and v are in any line of code, too
    enough = sum(told.values()) >= max(_FEW_HITS, share * len(words)) and len(clear) >= _FEW_KINDS
    return name if enough and first >= _LEAD * second else None
