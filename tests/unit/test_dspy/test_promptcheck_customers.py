# ruff: noqa: RUF001 - letters of other scripts are what this is about
"""What a prompt may not repeat of what customers said, however it is dressed."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bindu.dspy.promptcheck import Refusal, check_prompt
from bindu.dspy.promptcheck.names import repeated_names
from bindu.dspy.promptcheck.privacy import find_private

ACTIVE = "You help customers. Be kind."
SAID = "My parcel to Springfield was lost by your careless driver yesterday evening!"
COMPLAINT = "我昨天在你们的网店买的蓝色雨衣到现在还没有发货、客服也没有人回答我的问题。"


def refusals(text: str, *said: str, active: str = ACTIVE) -> list[Refusal]:
    return check_prompt(f"{active}\n{text}", active=active, customer_texts=said)


def offending(text: str, *said: str, active: str = ACTIVE) -> list[str]:
    return [refusal.offending for refusal in refusals(text, *said, active=active)]


# Runs of words


def test_eight_words_of_a_customer_are_a_copy_and_seven_are_not() -> None:
    assert refusals("the rule: parcel to Springfield was lost by your, and so on", SAID) == []
    (broken,) = refusals("My PARCEL to Springfield, was lost by your.", SAID)
    assert broken.rule == "copied"
    assert broken.offending == "My PARCEL to Springfield, was lost by your"
    assert broken.reason.startswith("8 words in a row stand in a conversation that the optimizer saw: My PARCEL")


def test_words_that_the_active_prompt_already_had_are_its_own() -> None:
    assert check_prompt(f"{SAID} Be brief.", active=SAID, training_texts=[f"As I said: {SAID}"]) == []


def test_a_run_that_is_half_the_active_prompt_and_half_new_is_new() -> None:
    active = f"{ACTIVE} My parcel to Springfield"
    broken = check_prompt(f"{active} was lost by your careless driver", active=active, training_texts=[SAID])
    assert [refusal.rule for refusal in broken] == ["copied"]


def test_an_answer_that_the_optimizer_saw_may_not_be_copied_either() -> None:
    (broken,) = check_prompt(f"{ACTIVE} {SAID}", active=ACTIVE, training_texts=[SAID])
    assert broken.rule == "copied"


def test_24_characters_of_a_customer_are_a_copy_where_words_have_no_spaces() -> None:
    said = COMPLAINT.replace("、", "")
    assert refusals(f"请记住 {said[:23]}。", COMPLAINT, active="请回答。") == []
    (broken,) = refusals(COMPLAINT[:30], COMPLAINT, active="请回答。")
    assert (broken.rule, broken.offending) == ("copied", COMPLAINT[:25])  # with the comma within
    assert broken.reason.startswith("24 characters in a row")


def test_in_a_mixed_text_three_characters_count_as_a_word() -> None:
    said = "我 昨天 买的 Nike Air Max 雨衣 order 到现在 还没有 发货"
    assert [it.rule for it in refusals("我昨天买的 nike air max 雨衣 order 到现在还没", said, active="请回答。")] == [
        "copied"
    ]
    assert refusals("我昨天买的 nike air max 雨衣 order", said, active="请回答。") == []


DRESS = st.sampled_from(
    [" ", "\n", "\n- ", "\n2. ", ", ", "... ", "** ", "\u200b ", " (3) ", " <b>", "</b> ", "-", "", "\u00a0", " &amp; "]
)
LOOKALIKE = str.maketrans({"a": "а", "e": "е", "o": "0", "p": "р", "i": "l", "s": "ѕ", "c": "с"})
WORDS = SAID.rstrip("!").split()


@settings(deadline=None)
@given(st.integers(0, len(WORDS) - 8), st.lists(DRESS, min_size=7, max_size=7), st.data())
def test_no_dress_hides_a_copy(first: int, between: list[str], data: st.DataObject) -> None:
    words = [
        data.draw(st.sampled_from([word, word.upper(), word.translate(LOOKALIKE), "\u00ad".join(word), f"_{word}_"]))
        for word in WORDS[first : first + 8]
    ]
    text = words[0] + "".join(f"{dress}{word}" for dress, word in zip(between, words[1:], strict=True))
    assert "copied" in {refusal.rule for refusal in refusals(text, SAID)}


@settings(deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=30), st.lists(st.sampled_from(WORDS), max_size=30))
def test_a_copy_is_found_exactly_when_eight_words_in_a_row_are_the_same(mine: list[str], theirs: list[str]) -> None:
    runs = [{tuple(text[place : place + 8]) for place in range(len(text) - 7)} for text in (mine, theirs)]
    found = {refusal.rule for refusal in refusals(" ".join(mine), " ".join(theirs))}
    assert ("copied" in found) == bool(runs[0] & runs[1])


# Numbers and codes

CODES = st.from_regex(r"\A[A-Z]{0,3}[0-9]{5,12}\Z").filter(lambda code: len(set(code)) > 3)


@settings(deadline=None)
@given(CODES, st.sampled_from(["", " ", "-", ".", "/", "\u200b", "**"]), st.integers(1, 4))
def test_a_code_of_a_customer_is_found_however_it_is_grouped(code: str, between: str, size: int) -> None:
    head = len(code.rstrip("0123456789"))
    groups = [code[head:][place : place + size] for place in range(0, len(code) - head, size)]
    text = code[:head] + between.join(groups)
    assert "private" in {refusal.rule for refusal in refusals(f"See {text} now.", f"My order {code} is late.")}
    again = refusals(f"And {text} now.", f"My order {code} is late.", active=f"{ACTIVE} See {text}.")
    assert "private" not in {refusal.rule for refusal in again}


@settings(deadline=None)
@given(CODES, CODES)
def test_another_code_is_none_of_theirs(mine: str, theirs: str) -> None:
    assume(mine.casefold() not in theirs.casefold() and mine.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ") not in theirs)
    found = [
        one for one in refusals(f"Say x{mine}x.", f"My order {theirs} is late.") if "code of a customer" in one.reason
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "ISO 27001", "ISO-8601", "ISO/IEC 27001:2022", "RFC 5322", "9:00-17:00", "150-200", "2024/25", "2024-2025",
        "10.15.7", "192.168.100.200", "1990s", "1080p", "2000-word", "5000/month", "24/7", "10-15", "49.99",
        "iPhone 15", "(0, 1, 0, 0, 0)", "4711",
    ],
)  # fmt: skip
def test_what_is_everybodys_may_be_said_although_a_customer_said_it(text: str) -> None:
    assert offending(f"Say {text} now.", f"I read {text} there") == []


@pytest.mark.parametrize(
    "text",
    ["10000", "129.99", "12.03.1985", "2024-11-29", "A1B2C3D4", "1Z999AA10123456784", "80331", "1234A", "12345k"],
)
def test_any_other_number_of_five_characters_is_a_customers(text: str) -> None:
    assert offending(f"Say {text} now.", f"I read {text} there") == [text]
    assert offending(f"Say {text} now.", "I read it there") == []


# Names


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("Hello, my name is Siobhan Kowalczyk and I wait.", "Siobhan"),
        ("hello my name is siobhan kowalczyk and i wait", "Siobhan"),
        ("My name’s Siobhan.", "Siobhan"),
        ("Hi, this is Siobhan from Boston.", "Siobhan"),
        ("Hi there! I'm Siobhan, and I wait.", "Siobhan"),
        ("This is Siobhan Kowalczyk. Where is it?", "Kowalczyk"),
        ("I called you. This is Siobhan speaking.", "Siobhan"),
        ("Name: Siobhan O'Brien\nOrder: lost", "O'Brien"),
        ("Where is it?\n\nSiobhan", "Siobhan"),
        ("Where is it?\nSiobhan Kowalczyk", "Kowalczyk"),
        ("Where is it\n- Siobhan", "Siobhan"),
        ("Where is it\nThanks a lot,\nSiobhan", "Siobhan"),
        ("Where is it? Kind regards, Siobhan", "Siobhan"),
        ("Ich heiße Jürgen Müller und warte.", "Müller"),
        ("Guten Tag, hier ist Jürgen.", "Jürgen"),
        ("Wo ist es?\n\nMit freundlichen Grüßen\nJürgen van der Meer", "Meer"),
        ("Bonjour, je m'appelle Zoé et j'attends.", "Zoé"),
        ("Hola, me llamo Íñigo Montoya.", "Montoya"),
        ("Salve, mi chiamo Giulia.", "Giulia"),
        ("Olá, meu nome é João Silva", "João"),
        ("Hallo, ik heet Joost.", "Joost"),
        ("Hej, jag heter Åsa.", "Åsa"),
        ("Nazywam się Łukasz Nowak.", "Łukasz"),
        ("İyi günler, my name is Ömer Yılmaz.", "Yılmaz"),
        ("my name is siobhan your app is broken", "Siobhan"),
        ("MY NAME IS SIOBHAN AND I AM ANGRY", "Siobhan"),
        ("Меня зовут Иван Петров.", "Петров"),
        ("你好,我叫王小明,我的包裹丢了。", "王小明"),
        ("田中太郎と申します。", "田中太郎"),
        ("제 이름은 김민수입니다.", "김민수"),
    ],
)
def test_a_name_that_a_customer_gave_is_found_where_the_prompt_repeats_it(said: str, name: str) -> None:
    assert repeated_names(f"Be kind to {name}.", ACTIVE, ["Other words.", said]) == [name]
    assert repeated_names(f"Be kind to {name}.", f"{ACTIVE} {name} wrote it.", [said]) == []
    assert repeated_names("Be kind to all.", ACTIVE, [said]) == []


@pytest.mark.parametrize(
    "said",
    [
        "This is Ridiculous! I want a Refund.",
        "This is Amazon's fault. I am Very Angry.",
        "My name is spelled wrong. My name is on the Order.",
        "my name is not important",
        "my name is john your back hurts and app is broken",
        "I'm German. I am Australian and I live in London.",
        "Call me back on Monday. Please Help.\nThank You",
        "Where is it?\n\nUrgent",
        "Product name: Mark II",
        "Hi, I'm Will. May I ask?\n\nBest, May",
        "Hello, this is Max from Georgia.\n\nSummer",
        "I may be wrong, but will you mark it?\nGrace",
        "",
        "\n\n",
    ],
)
def test_ordinary_words_are_no_names(said: str) -> None:
    text = (
        "Will the customer be angry, apologise. May I suggest: in May mention the Summer sale, Max 3 items. Mark each. "
        "Refund at once. Answer in German. Grace matters. Mention the Order, Amazon, London, Georgia, Monday. "
        "Very Urgent: Thank You, Please Help, Back, Spelled, Wrong, Important, Australian, Ridiculous, Angry."
    )
    assert repeated_names(text, ACTIVE, [said]) == []


def test_a_name_that_is_also_a_word_counts_after_a_title_and_as_a_whole() -> None:
    said = ["Hi, this is Will from Boston.", "My name is May Baker."]
    assert repeated_names("Will it help? Dear Will, in May ask a baker.", ACTIVE, said) == ["Will"]
    assert repeated_names("May Baker asked; may baker wait.", ACTIVE, said) == ["May Baker", "may baker"]


def test_a_word_that_people_mostly_write_small_is_no_name_without_a_title() -> None:
    said = ["Thanks,\nNova", "a nova is a star", "nova or not", "the nova!"]
    assert repeated_names("Explain a star: Nova. Ask Mrs Nova.", ACTIVE, said) == ["Nova"]
    assert repeated_names("Explain Nova.", ACTIVE, said) == []
    assert repeated_names("Explain Nova.", ACTIVE, said[:1]) == ["Nova"]


# Private details


@settings(deadline=None)
@given(st.from_regex(r"\A4[0-9]{14}\Z"), st.sampled_from(["", " ", "-", ".", "/", "\u200b", "\u2013", "\u00a0"]))
def test_a_card_number_is_found_however_it_is_grouped(start: str, between: str) -> None:
    number = next(f"{start}{last}" for last in range(10) if _checks(f"{start}{last}"))
    text = between.join(number[place : place + 4] for place in range(0, 16, 4))
    assert "a payment card" in [one.what for one in find_private(f"Use {text}, please.")]


def _checks(number: str) -> bool:
    digits = [int(one) * (2 if place % 2 == 0 else 1) for place, one in enumerate(number)]
    return sum(sum(divmod(one, 10)) for one in digits) % 10 == 0


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("jane.doe@example.com", "jane.doe (at) example [dot] com"),
        ("+49 30 901820", "(030) 90 18 20"),
        ("DE89 3704 0044 0532 0130 00", "DE89370400440532013000"),
        ("4111 1111 1111 1111", "4111-1111-1111-1111"),
        ("Hauptstraße 5", "HAUPTSTRASSE 5".title()),
    ],
)
def test_what_the_active_prompt_has_may_be_written_in_another_way(ours: str, theirs: str) -> None:
    active = f"Write to {ours}."
    assert check_prompt(f"Please write to {theirs}.", active=active) == []
    assert check_prompt(f"Please write to {theirs}.", active="Write to us.") != []


def test_each_private_detail_is_told_once() -> None:
    found = check_prompt(
        f"{ACTIVE} Ask jo@example.org, Jo@Example.org or +49 30 901820; pay to DE89 3704 0044 0532 0130 00.",
        active=ACTIVE,
    )
    assert [refusal.offending for refusal in found] == [
        "jo@example.org",
        "DE89 3704 0044 0532 0130 00",
        "+49 30 901820",
    ]
    assert found[0].reason == "The prompt contains an e-mail address that the active one does not: jo@example.org"


def test_without_customers_texts_only_forms_are_known() -> None:
    text = "See order 4711-0815 of Siobhan, Lindenweg 7."
    said = ["My name is Siobhan, order 4711-0815, Lindenweg 7."]
    assert check_prompt(f"{ACTIVE} {text}", active=ACTIVE, training_texts=said) == []
    assert sorted(offending(text, *said)) == ["4711-0815", "Lindenweg 7", "Siobhan"]
