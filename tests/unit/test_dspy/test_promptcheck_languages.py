# ruff: noqa: RUF001 - letters of other scripts are what this is about
"""In which language a prompt is, and how many tokens it costs there."""

from __future__ import annotations

import pytest

from bindu.dspy.promptcheck import check_prompt
from bindu.dspy.promptcheck.tokens import estimate_tokens


def rules(candidate: str, active: str) -> list[str]:
    return [refusal.rule for refusal in check_prompt(candidate, active=active)]


COMPLAINT = "我昨天在你们的网店买的蓝色雨衣到现在还没有发货、客服也没有人回答我的问题。"
SAID = {
    "English": "Answer the customer politely. When they are angry, say that you are sorry and tell them what you can "
    "do and how long it will take for the parcel to arrive.",
    "German": "Antworte dem Kunden höflich. Wenn er wütend ist, entschuldige dich zuerst und sage ihm, was du tun "
    "kannst und wie lange es mit dem Paket dauert, und sei nicht zu kurz.",
    "French": "Réponds poliment au client. Quand il est fâché, excuse-toi et dis ce que vous pouvez faire pour le "
    "colis et dans combien de temps il sera livré avec la poste.",
    "Spanish": "Responde con cortesía al cliente. Si está enfadado, discúlpate primero y dile lo que puedes hacer y "
    "cuánto tiempo va a tardar en llegar el paquete por correo a la casa.",
    "Italian": "Rispondi con cortesia al cliente. Se è arrabbiato, chiedi scusa e di che cosa puoi fare per lui e "
    "quando il pacco arriva, e non essere troppo breve con gli altri.",
    "Portuguese": "Responda com educação ao cliente. Se ele estiver zangado, peça desculpa e diga o que você pode "
    "fazer e quanto tempo a encomenda vai demorar, mas não seja muito breve.",
    "Dutch": "Antwoord de klant beleefd. Als hij boos is, zeg dan dat het je spijt en wat je voor hem kunt doen en hoe "
    "lang het met het pakket nog duurt, en wees niet te kort.",
    "Swedish": "Svara kunden artigt. Om den är arg ska du först säga att det är tråkigt och sedan vad du kan göra och "
    "när paketet kommer till kunden, och inte vara för kort.",
    "Danish or Norwegian": "Svar kunden høfligt. Hvis han er sur, skal du sige undskyld og fortælle ham, hvad du kan "
    "gøre, og hvornår pakken er fremme, og vær ikke for kort til at hjælpe ham.",
    "Finnish": "Vastaa kohteliaasti. Jos asiakas on vihainen, pyydä anteeksi ja kerro, mitä voit tehdä ja kuinka kauan "
    "se kestää, mutta älä ole liian lyhyt, kun paketti on myöhässä.",
    "Polish": "Odpowiadaj uprzejmie. Jeśli klient jest zły, przeproś go i powiedz, co możesz zrobić i jak długo to "
    "potrwa, gdy paczka jest w drodze, ale nie bądź za krótki, bo on czeka na to.",
    "Czech": "Odpovídej zdvořile. Pokud je zákazník naštvaný, omluv se a řekni, co pro něj můžeš udělat a jak dlouho "
    "to bude trvat, když je balík na cestě, ale nebuď moc stručný.",
    "Turkish": "Kibarca cevap ver. Eğer müşteri kızgın ise özür dile ve onun için ne yapabileceğini söyle, ama çok "
    "kısa olma ve paket için ne kadar süre olduğunu da belirt.",
    "Indonesian": "Jawab dengan sopan. Jika pelanggan marah, minta maaf dan katakan apa yang bisa anda lakukan untuk "
    "dia dan berapa lama paket itu akan tiba, tetapi jangan terlalu pendek.",
    "Russian": "Отвечай клиенту вежливо. Если он сердится, сначала извинись, потом скажи, что ты можешь сделать для "
    "него и когда ему придет посылка, и не пиши слишком коротко.",
    "Ukrainian": "Відповідай клієнту ввічливо. Якщо він сердиться, вибачся і скажи, що ти можеш зробити для нього та "
    "коли йому прийде посилка, і не пиши надто коротко, як до цього.",
    "Arabic": "أجب العميل بأدب. إذا كان غاضبا فاعتذر أولا ثم قل ما يمكن أن تفعله من أجله، ولا تكن قصيرا، أو اسأل عن "
    "الطلب الذي لم يصل إلى العميل في وقته.",
    "Persian": "به مشتری مودبانه پاسخ بده. اگر او ناراحت است، از او عذرخواهی کن و بگو که چه کاری برای او می توانی "
    "بکنی و آن بسته را تا کی به او می رسانی.",
    "Greek": "Απάντησε ευγενικά στον πελάτη. Αν είναι θυμωμένος, ζήτησε πρώτα συγγνώμη και πες τι μπορείς να κάνεις.",
    "Korean": "고객에게 공손하게 대답하세요. 고객이 화가 났다면 먼저 사과하고 무엇을 할 수 있는지 말하세요.",
    "Japanese": "お客様には丁寧に答えてください。怒っているときは、まず謝り、次に何ができるかを伝えてください。",
    "Chinese": COMPLAINT + "请礼貌地回答、并且说明下一步怎么做。",
}


@pytest.mark.parametrize("spoken", SAID)
@pytest.mark.parametrize("active", SAID)
def test_a_prompt_in_another_language_is_refused_and_one_in_its_own_is_not(active: str, spoken: str) -> None:
    before, new = SAID[active], SAID[spoken]
    for candidate in (new + " ", f"{before}\n{new}", f"{before}\n{before} {before}\n{new}"):  # rewritten, with advice
        broken = rules(f"{candidate} ok", before)
        assert ("language" in broken) == (active != spoken)


def test_one_line_of_another_language_among_many_of_its_own_is_refused() -> None:
    english = "\n".join(f"Rule {number}: {SAID['English']}" for number in range(9))
    (broken,) = check_prompt(f"{english}\n{SAID['German']}", active=SAID["English"])
    assert (broken.rule, broken.offending) == ("language", SAID["German"])
    assert broken.reason.startswith("The prompt is in English and what is new in it in German: Antworte")


def test_what_the_active_prompt_speaks_besides_may_be_said_again() -> None:
    both = f"{SAID['English']}\n{SAID['German']}"
    assert rules(f"{both}\nUnd {SAID['German'].lower()}", both) == []


def test_a_few_foreign_words_are_no_other_language() -> None:
    polite = 'Say "Guten Tag" to people who write German. Say "Bonjour, je suis là pour vous" to the French.'
    assert check_prompt(f"{SAID['English']}\n{polite}", active=SAID["English"]) == []


# Tokens that cl100k_base and o200k_base count, whichever are more
COUNTED = {
    "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience and "
    "should act towards one another in a spirit of brotherhood.": 33,
    "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan. Heille on annettu järki ja "
    "omatunto, ja heidän on toimittava toisiaan kohtaan veljeyden hengessä.": 68,
    "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni rozumem i "
    "sumieniem i powinni postępować wobec innych w duchu braterstwa.": 64,
    "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и должны "
    "поступать в отношении друг друга в духе братства.": 74,
    "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα. Είναι προικισμένοι με λογική "
    "και συνείδηση, και οφείλουν να συμπεριφέρονται μεταξύ τους με πνεύμα αδελφοσύνης.": 172,
    "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق. وقد وهبوا عقلاً وضميرًا وعليهم أن "
    "يعامل بعضهم بعضًا بروح الإخاء.": 88,
    "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। उन्हें बुद्धि और अन्तरात्मा की देन "
    "प्राप्त है और परस्पर उन्हें भाईचारे के भाव से बर्ताव करना चाहिए।": 180,
    "ప్రతిపత్తిస్వత్వముల విషయమున మానవులెల్లరును జన్మతః స్వతంత్రులును సమానులును నగుదురు. వారు వివేచన-అంతఃకరణ సంపన్నులగుటచే "
    "పరస్పరము భ్రాతృభావముతో వర్తింపవలయును.": 281,
    "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ต่างมีเหตุผลและมโนธรรม และควรปฏิบัติต่อกันด้วยเจตนารมณ์แห่งภราดรภาพ": 135,
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 인간은 천부적으로 이성과 양심을 부여받았으며 "
    "서로 형제애의 정신으로 행동하여야 한다.": 85,
    "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。人間は、理性と良心とを授けられており、"
    "互いに同胞の精神をもって行動しなければならない。": 93,
    "人人生而自由,在尊嚴和權利上一律平等。他們賦有理性和良心,並應以兄弟關係的精神相對待。": 60,
    "Be kind 😀👍🏽 and cheer 🎉🎊 people up ❤️‍🔥 👩‍💻 🇩🇪 🏳️‍🌈 ✅ ❌ → ✓ • ★": 55,
    "eW91IGFyZSBhIHN1cHBvcnQgYWdlbnQgb2YgYW4gb25saW5lIHNob3A= aGVsbG8gd29ybGQsIHRoaXMgaXMgYSB0ZXN0": 64,
    "3141592653589793238462643383279502884197169399375105820974944592307816406286 2024-11-29T19:38:00Z 0x7f3a9c": 50,
}


@pytest.mark.parametrize("text", COUNTED)
def test_the_estimate_of_tokens_is_not_below_what_tokenizers_count_nor_far_above(text: str) -> None:
    assert COUNTED[text] <= estimate_tokens(text) <= 1.8 * COUNTED[text]
