"""The encoder `words` on catalogs in any script."""

from __future__ import annotations

import itertools
import random
import unicodedata

import pytest
import torch

from lmm4rec.core.types import Item
from lmm4rec.encoders.words import Words, _terms

TITLES = {  # two kinds of item in each language; the first word is of the kind
    "Chinese": (("红色连衣裙夏季", "红色连衣裙冬季"), ("牛仔裤男士款", "牛仔裤女士款")),
    "Japanese": (("赤いマグカップ小", "赤いマグカップ大"), ("白い長袖シャツ", "黒い長袖シャツ")),
    "Thai": (("กางเกงยีนส์สีฟ้า", "กางเกงยีนส์สีดำ"), ("เสื้อยืดแขนสั้น", "เสื้อยืดแขนยาว")),
    "Hindi": (("लाल रेशमी साड़ी", "हरी रेशमी साड़ी"), ("चमड़े के जूते", "चमड़े के बूट")),
    "Khmer": (("អាវយឺតក្រហម", "អាវយឺតខៀវ"), ("ស្បែកជើងខ្មៅ", "ស្បែកជើងស")),
    "Lao": (("ເສື້ອຢືດສີແດງ", "ເສື້ອຢືດສີຟ້າ"), ("ກາເຟນົມ", "ກາເຟດຳ")),
    "Burmese": (("လက်ဖက်ရည်ချို", "လက်ဖက်ရည်စိမ်း"), ("စာအုပ်အနီ", "စာအုပ်အပြာ")),
    "Korean": (("빨간 머그 컵", "빨간 머그 접시"), ("청 바지 남성", "청 바지 여성")),
    "Arabic": (("حذاء جلدي أسود", "حذاء جلدي بني"), ("قميص قطن أبيض", "قميص قطن أزرق")),
    "Russian": (("красная кружка", "красная кружка большая"), ("синие джинсы", "синие джинсы узкие")),
}


def vectors(titles: list[str], dim: int = 32) -> torch.Tensor:
    items = [Item(str(row), {"title": title}) for row, title in enumerate(titles)]
    words = Words(text="{title}", dim=dim)
    words.learn_catalog(items)
    inputs = words.prepare(items)
    assert words.present(inputs)["text"].all()
    return words(inputs)["text"]


@pytest.mark.long
@pytest.mark.parametrize("language", TITLES)
def test_titles_of_one_kind_are_alike(language: str) -> None:
    first, second = TITLES[language]
    for catalog in ([*first, *second], [title for pairs in TITLES.values() for pair in pairs for title in pair]):
        rows = vectors(catalog)
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(catalog)))  # none is zero
        alike = rows @ rows.T
        for pair in (first, second):
            assert alike[catalog.index(pair[0]), catalog.index(pair[1])] > 0.5
        unlike = [float(alike[catalog.index(a), catalog.index(b)]) for a, b in itertools.product(first, second)]
        assert max(unlike) < 0.4


def test_vowel_signs_belong_to_their_word() -> None:
    """किताब (book) and कतब share their consonants alone: not a word."""
    rows = vectors(["किताब नई", "किताब नई", "कतब पुराना", "कतब पुराना"])
    assert rows[0] @ rows[1] > 0.99
    assert rows[0] @ rows[2] < 0.01


def test_composed_and_decomposed_letters_are_the_same() -> None:
    plain = ["crème brûlée", "crème glacée", "thé vert"]
    torch.testing.assert_close(
        vectors([*plain, *plain]), vectors([*plain, *(unicodedata.normalize("NFD", text) for text in plain)])
    )


def test_random_catalogs_in_any_script_give_vectors() -> None:
    """Sixty titles of random letters of one block: each that shares a pair of letters has a unit vector."""
    draw = random.Random(0)
    for start, stop in (
        (0x4E00, 0x4E28),
        (0x3041, 0x3060),
        (0x0E01, 0x0E2E),
        (0x1780, 0x17A2),
        (0x1000, 0x1020),
        (0x20000, 0x20020),
    ):
        letters = [chr(code) for code in range(start, stop)]
        titles = ["".join(draw.choices(letters[:12], k=8)) for _ in range(60)]
        rows = vectors(titles, dim=60)
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(60))
        assert (rows @ rows.T - torch.eye(60)).abs().mean() < 0.5


@pytest.mark.parametrize("text", ["🎉", "—", "…", "\U000a46e3", "★ ☆"])
def test_a_text_of_signs_alone_has_no_words(text: str) -> None:
    assert _terms(text) == []
