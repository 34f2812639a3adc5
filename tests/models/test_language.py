from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxpress.models import detect_language

SENTENCES = {
    "en": "The council said on Monday that the bridge would not be closed before the end of May.",
    "de": "Der Rat sagte am Montag, dass die Brücke nicht vor Ende Mai gesperrt werden soll.",
    "fr": "Le conseil a dit lundi que le pont ne sera pas fermé avant la fin du mois de mai.",
    "es": "El ayuntamiento dijo el lunes que el puente no se cerrará antes del final de mayo.",
    "it": "Il consiglio ha detto lunedì che il ponte non sarà chiuso prima della fine di maggio.",
    "pt": "A câmara disse na segunda-feira que a ponte não será fechada antes do fim de maio.",
    "nl": "De gemeente zei maandag dat de brug niet voor het einde van mei wordt gesloten.",
    "sv": "Kommunen sade i måndags att bron inte ska stängas före slutet av maj, och det är bra.",
    "pl": "Rada powiedziała w poniedziałek, że most nie zostanie zamknięty przed końcem maja.",
    "cs": "Rada v pondělí řekla, že most se do konce května nebude zavírat, ale může to být jinak.",
    "tr": "Belediye pazartesi günü köprünün mayıs sonuna kadar kapatılmayacağını ve bu konuda bir "
    "karar olduğunu söyledi.",
    "vi": "Hội đồng đã nói vào thứ hai rằng cây cầu sẽ không bị đóng cửa trước cuối tháng năm.",
    "id": "Dewan mengatakan hari Senin bahwa jembatan itu tidak akan ditutup sebelum akhir Mei.",
    "ro": "Consiliul a spus luni că podul nu va fi închis până la sfârșitul lunii mai și este.",
    "hu": "A tanács hétfőn azt mondta, hogy a hidat nem zárják le május vége előtt, és ez így van.",
    "fi": "Neuvosto sanoi maanantaina, että siltaa ei suljeta ennen toukokuun loppua, mutta se voi "
    "muuttua.",
    "ru": "Совет сообщил в понедельник, что мост не закроют до конца мая.",
    "uk": "Рада повідомила в понеділок, що міст не закриють до кінця травня.",
    "el": "Το συμβούλιο είπε τη Δευτέρα ότι η γέφυρα δεν θα κλείσει.",
    "ar": "قال المجلس يوم الاثنين إن الجسر لن يغلق قبل نهاية مايو.",
    "fa": "شورا روز دوشنبه گفت که پل تا پایان ماه مه بسته نخواهد شد.",
    "he": "המועצה אמרה ביום שני שהגשר לא ייסגר לפני סוף מאי.",
    "hi": "परिषद ने सोमवार को कहा कि पुल मई के अंत से पहले बंद नहीं होगा।",
    "th": "สภากล่าวเมื่อวันจันทร์ว่าสะพานจะไม่ปิดก่อนสิ้นเดือนพฤษภาคม",
    "zh": "市议会周一表示，这座桥在五月底之前不会关闭。",
    "ja": "市議会は月曜日に、橋は五月末まで閉鎖されないと述べた。",
    "ko": "시의회는 월요일에 다리가 오월 말까지 폐쇄되지 않을 것이라고 말했다.",
}


@pytest.mark.parametrize(("code", "text"), SENTENCES.items(), ids=list(SENTENCES))
def test_languages(code: str, text: str) -> None:
    assert detect_language(text) == code


@pytest.mark.parametrize(
    "text",
    [
        "Fixed memory leak in connection pool. Added retry option for failed requests. Default "
        "timeout is 30 s.",
        "GPU memory usage exceeded the limit; process killed by OOM handler; restart scheduled.",
        "PM: Okay , so um we 're going to look at the budget . UI: Yeah .",
        "The word Schadenfreude, from German, and the phrase joie de vivre are used in English.",
    ],
)
def test_terse_and_technical_english_is_english(text: str) -> None:
    assert detect_language(text) == "en"


@pytest.mark.parametrize(
    "text",
    [
        "The meninges (/məˈnɪndʒiːz/, singular: meninx, from Ancient Greek: μῆνιγξ, membrane) "
        "are the three membranes that envelop the brain and the spinal cord.",
        "Tbilisi (Georgian: თბილისი) was founded by a king of the country, and it has grown from "
        "one fortress to the largest of its cities.",
    ],
)
def test_english_with_names_in_other_letters_is_english(text: str) -> None:
    assert detect_language(text) == "en"


@pytest.mark.parametrize(
    "text",
    [
        "Is é Éire an tír is mó ar an oileán, agus tá an príomhchathair i mBaile Átha Cliath.",
        "Shqipëria është një vend në Evropën Juglindore, dhe në të jetojnë një milion banorë.",
        "",
        "   ",
        "123 456.7",
        "foo bar baz qux",
        "def f(x): return x + 1",
        "Jane Doe, Max Roe, Li Wei",
        "kubectl get pods -n kube-system | grep CrashLoopBackOff",
        "\ud800",
        "😀" * 20,
    ],
)
def test_what_cannot_be_told_is_undetermined(text: str) -> None:
    assert detect_language(text) == "und"


def test_english_around_another_script_is_not_english() -> None:
    assert detect_language("The minutes say: " + SENTENCES["zh"] * 3) == "zh"
    assert detect_language(SENTENCES["en"] * 5 + " 北京") == "en"


@given(st.text(max_size=200))
def test_any_string_has_an_answer_and_always_the_same(text: str) -> None:
    code = detect_language(text)
    assert code == detect_language(text)
    assert 2 <= len(code) <= 3
