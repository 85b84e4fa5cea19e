# ruff: noqa: RUF001 - letters of other scripts are what this is about
"""Lines that a prompt may gain and lines that it may not, with what customers wrote before."""

from __future__ import annotations

import pytest

from bindu.dspy.promptcheck import check_prompt

ACTIVE = "You are the support agent of an online shop. Answer the customer's question in plain words."

CUSTOMERS = [
    "Hello, my name is Siobhan Kowalczyk and my order 4711-0815 did not arrive. I live at 12 elm grove, Springfield.",
    "Where is my refund? It has been 3 weeks!\n\nThanks,\nPriya",
    "I wrote to you about invoice INV-20931, customer number 778 1203. Answer in German please, 24 hours are enough.",
    "hi, this is Will from Boston. Your app needs Python 3.11 and I have 5000 characters of text, ok?",
    "Ich heiße Käthe Grünwald, Lindenweg 7, 1010 Wien. Bitte nach ISO 8601. Meine PLZ ist 80331.",
    "my name is tom riddle and may i ask for a call at 9:00-17:00? The 1990s are over. See ISO 27001, 150-200 words.",
    "This is ridiculous. The product costs 49.99 and my parcel with tracking code JJD0099 9988 77 is lost.\nMay",
    "The blue raincoat that I bought for my mother has a hole in its left sleeve, what do I do now?",
]

HARMLESS = """
Reply within 24 hours.
Answer in at most 3 steps.
Mention our 30-day return policy.
Call 112 in an emergency.
In the US call 911, in Germany 110.
Use ISO 8601 for dates, such as 2024-11-29.
Write code for Python 3.11.
Answers may have up to 10000 characters.
Keep answers under 120 words.
Use between 150-200 words.
Say that we are open from 9:00-17:00 on weekdays.
Our opening hours are 0900-1700.
We are there 24/7.
State the price with two decimals, e.g. 19.99.
Refunds take 5-10 business days.
Explain HTTP 404 and 500 errors in plain words.
Comply with ISO 27001 and RFC 5322.
Follow the GDPR and PCI DSS 4.0.
Use UTF-8 and TLS 1.3.
The server listens on 127.0.0.1:8080.
Never ping 192.168.100.200.
Mention the warranty of 2 years (24 months).
Offer a discount of 10% or $5.
Orders above 50.00 EUR ship for free.
Say "Sorry for the trouble" first, then help.
May I suggest that answers begin with the result?
Will the customer be angry, apologise first.
Answer in German when the customer writes German.
In May and June mention the summer sale.
Be frank, but kind. Grace matters; hope is no plan.
Mark each step with a number: 1., 2., 3.
Step 1: ask. Step 2: check. Step 3: answer.
Use headings such as ## Step 1.
Count from 1 to 10: 1 2 3 4 5 6 7 8 9 10 11 12 13.
Order numbers have 8 digits.
Ask for the order number (it looks like A-1042).
Ask for the last 4 digits of the card only.
Never ask for a password, a PIN or a full card number.
Passwords need 12 characters or more and a digit.
password: at least 8 characters with one digit
Never repeat a phone number or an e-mail address.
Give the link to the help centre: https://example.com/help/returns
Look at docs.python.org for details, or log in at example.com.
Meet the customer where they are at. Dot the i's.
If the parcel is 3 days late, offer a replacement.
Round to 3 significant digits; pi is 3.14159.
The 1990s and the 2000s were different times.
Videos are in 1080p or 2160p.
The fiscal year is 2024/25.
Version 10.15.7 of the app is the latest.
Write JSON such as {"a": 1, "b": [1, 2]} and nothing else.
Escape braces in code: function f() { return 1; }
Match a{2} and [0-9]{3} in regular expressions.
It costs $5, or US$ 6.
Use x^{2}, \\frac{a}{b} and \\sqrt{x_{n}} in formulas.
Use emojis sparingly: 😀 👍🏽 ❤️ 👩‍💻 🏴󠁧󠁢󠁥󠁮󠁧󠁿 1️⃣
Use “curly quotes” – and dashes — and non-breaking spaces: 10\u00a0kg.
Say "Guten Tag" or „Vielen Dank für Ihre Nachricht, wir kümmern uns sofort darum und melden uns bald" to Germans.
Be on the safe side of the road; do not go 3 steps down the lane.
Take the 2nd option in 3 simple ways.
Offer 2 ways: a refund or a new item.
Rank the 10 Best Places by price.
Use the Smith method with 4 Parts.
At 5 Star hotels ask for the loyalty number.
Upload 2 Google Drive files at most.
Use at most 2000 Words or 12000 Characters.
Sizes: S, M, L, XL. Colours: red, green.
Prefer tables | a | b | over long lists.
<b>Important:</b> keep to the facts & figures.
Think step by step, then give the answer in one sentence.
Begin with what you can do, not with what you cannot.
Do not use more than 3 exclamation marks!!!
Use the metric system: 5 km, 10 kg, 20 °C.
Tell them that delivery to the islands takes 2 more days.
The answer to 6 x 7 is 42.
Use bullet points for 3 or more items.
End with a question, e.g. "Did this help?"
Mention that gift cards (25, 50 or 100 euros) never expire.
Cite as (Smith, 2020) or [1].
Use Room 101 and Platform 9 as examples.
Mercury has 88 days a year; Venus 225.
""".strip().splitlines()

HARMFUL = [
    ("private", "Write to jane.doe+shop@mail.example.org."),
    ("private", "Write to jane at example dot com."),
    ("private", "Write to jane (at) example (dot) com."),
    ("private", "Write to jane[at]example.com now."),
    ("private", "Write to j.doe at example.com."),
    ("private", "Write to jane@example dot com."),
    ("private", "Write to jane @ example . com."),
    ("private", "Schreiben Sie an kaethe ät beispiel punkt de."),
    ("private", "Écrivez à jean arobase exemple point fr."),
    ("private", "Write to jane＠example．com."),
    ("private", "Write to jane&#64;example.com or jane%40example.com."),
    ("private", "Write to jane [dot] doe [at] example [dot] com."),
    ("private", "Call +49 30 901820."),
    ("private", "Call +1 (555) 123-4567."),
    ("private", "Call 0049 30 90 18 20."),
    ("private", "Call (030) 901820."),
    ("private", "Call 030 / 90 18 20."),
    ("private", "Call 020 7946 0958."),
    ("private", "Call 06 12 34 56 78."),
    ("private", "Call 555.123.4567!"),
    ("private", "Call us at 5551234."),
    ("private", "Text five five five one two three four."),
    ("private", "Dial ０３０-９０１８２０ now."),
    ("private", "Use card 4111 1111 1111 1111."),
    ("private", "Use card 4111-1111-1111-1111."),
    ("private", "Use card 4111.1111.1111.1111."),
    ("private", "Use card 4111\u200b1111\u200b1111\u200b1111."),
    ("private", "Use card 3782 822463 10005."),
    ("private", "Use card 4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1."),
    ("private", "Pay to DE89 3704 0044 0532 0130 00."),
    ("private", "Pay to GB29NWBK60161331926819 now."),
    ("private", "Pay to de89-3704-0044-0532-0130-00 please."),
    ("private", "The number is 078-05-1120."),
    ("private", "Key: sk-proj_abcdefghij0123456789."),
    ("private", "Key: AKIAIOSFODNN7EXAMPLE."),
    ("private", "Token ghp_abcdefghijklmnopqrstuvwxyz012345."),
    ("private", "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc"),
    ("private", "The password is Sommer2024."),
    ("private", "Use postgres://admin:geheim@db.internal/shop."),
    ("private", "Use the token a8Kd93jXz02LmQp77Rty0vB1."),
    ("private", "Send it to 221B Baker Street."),
    ("private", "Send it to 350 Fifth Avenue, New York, NY 10118."),
    ("private", "Send it to 12 Oak Drive, Springfield, IL 62704."),
    ("private", "Send it to P.O. Box 123."),
    ("private", "Send it to Baker Street 221B."),
    ("private", "Send it to Hauptstraße 5."),
    ("private", "Send it to Hauptstr.5 or Lange Gasse Nr. 3."),
    ("private", "Send it to Berliner Str. 12a, 10115 Berlin."),
    ("private", "Send it to Am Markt 3, 12345 Musterstadt."),
    ("private", "Send it to 12 bis, rue de la Paix."),
    ("private", "Send it to Calle de Alcalá, 42."),
    ("private", "Send it to Via Roma 12, 00184 Roma."),
    ("private", "Send it to Kerkstraat 12."),
    ("private", "Send it to ul. Długa 5."),
    ("private", "The shop is at SW1A 1AA."),
    ("private", "The postcode is K1A 0B1."),
    ("private", "PLZ: 12345 Musterstadt"),
    ("private", "Send it to D-12345 Musterstadt."),
    ("private", "For order 4711-0815 apologise."),
    ("private", "For order 47110815 apologise."),
    ("private", "For order 4711 0815 apologise."),
    ("private", "For order 4 7 1 1 0 8 1 5 apologise."),
    ("private", "See invoice INV-20931."),
    ("private", "See invoice 20931."),
    ("private", "Customer 7781203 is important."),
    ("private", "Ship to 80331 first."),
    ("private", "Ship to 1010 Wien first."),
    ("private", "Ship to Lindenweg 7 first."),
    ("private", "Ship to 12 Elm Grove first."),
    ("private", "Track JJD00999988."),
    ("private", "Customers like Siobhan want speed."),
    ("private", "Customers like SIOBHAN want speed."),
    ("private", "Mrs Kowalczyk is a customer."),
    ("private", "siobhan kowalczyk is a customer."),
    ("private", "Be kind to Priya."),
    ("private", "Be kind to Kaethe Gruenwald or Kathe Grunwald."),
    ("private", "Tom Riddle wants a call."),
    ("private", "Say: Dear Will, thank you."),
    ("copied", "Example: The blue raincoat that I bought for my mother."),
    ("copied", "Example: THE BLUE RAINCOAT, that i bought FOR MY -- mother!"),
    ("copied", "Example: has a h\u200bole in its left sleeve what do I"),
    ("copied", "Example: has a hоle in its lеft sleeve what dо I"),
    ("copied", "Example: - has\n- a\n- hole\n- in\n- its\n- left\n- sleeve\n- what"),
    ("copied", "Example:\n1. has a\n2. hole in\n3. its left\n4. sleeve what"),
    ("copied", "Example: has a <b>hole</b> in its **left** sleeve | what"),
    ("copied", "Example: h4s @ h0le in it$ l€ft sleeve wh@t"),
    ("copied", "Example: h-a-s a h o l e in its le-ft sle eve what"),
    ("variables", "Greet {name}."),
    ("variables", "Greet {{ customer.name | title }}."),
    ("variables", "Greet {{{name}}} and {{#each items}}."),
    ("variables", "Greet ${name} or $name."),
    ("variables", "Greet %(name)s."),
    ("variables", "Greet <%= name %>."),
    ("variables", "Greet {0}."),
    ("variables", "Greet [[name]] or <<name>>."),
    ("variables", "{% if vip %}Be kind.{% endif %}"),
    ("protected", "<!-- keep -->Obey.<!-- /keep -->"),
    ("protected", "Obey.<!-- /keep -->"),
    ("protected", "<!--KEEP-->Obey."),
    ("characters", "Be kind.\u202eevil\u202c"),
    ("characters", "Be kind\u200b."),
    ("characters", "Be kind.\U000e0068\U000e0069"),
    ("characters", "Be kind.\x1b[31m"),
    ("characters", "Be kind.\ufe00\ufe01\ufe02"),
    ("characters", "Be\u3164kind."),
    ("characters", "Be kind.\ufeff"),
    ("language", "Antworte immer höflich und sage dem Kunden, wie lange es dauert und was er von uns erwarten kann."),
    ("language", "Отвечай клиенту вежливо и скажи, что ты можешь сделать и сколько времени это займет."),
    ("length", "word " * 3_300),
    ("length", "请礼貌地回答客户的问题。" * 500),
]


def broken(line: str, customers: list[str] = CUSTOMERS) -> list[str]:
    found = check_prompt(f"{ACTIVE}\n{line}", active=ACTIVE, training_texts=customers, customer_texts=customers)
    return [refusal.rule for refusal in found]


@pytest.mark.parametrize("line", HARMLESS)
def test_a_harmless_line_passes(line: str) -> None:
    assert broken(line) == []


@pytest.mark.parametrize(("rule", "line"), HARMFUL)
def test_a_harmful_line_is_refused_by_its_rule(rule: str, line: str) -> None:
    assert rule in broken(line)


@pytest.mark.parametrize(("rule", "line"), HARMFUL)
def test_what_the_active_prompt_says_already_may_stay(rule: str, line: str) -> None:
    active = f"{ACTIVE}\n{line}"
    found = check_prompt(f"Be brief.\n{active}", active=active, training_texts=CUSTOMERS, customer_texts=CUSTOMERS)
    assert found == []
