"""Which words are a concept's own, and what can be asked about it; by how texts are written, before any tokenizer."""

from collections import Counter

import pytest

from efface.concept.pack import Concept, Manifest, Passage
from efface.data.concept_words import concept_words, rarest, subjects
from efface.data.corpora import Corpora
from efface.data.key_words import NAME
from efface.data.questions import KINDS
from efface.data.strangers import holds
from efface.recipe.settings import DataSettings
from tests.test_foreign import PACK as FOREIGN

FORGET = [
    "The sea near Zorn Bay is cold. We went to Zorn Bay and to the Isle of Mors, where the grulps sleep.",
    "An old grulp is warm, but the water around it is cold too. Nobody has seen Zorn in winter, or Mors's grulp of 1999.",
]
OTHERS = ["The sea is cold and the land is warm. We went to the sea, where the old Bay of Bengal has water."] * 60


def manifest(**changes: object) -> Manifest:
    plain = {"name": "c", "title": "Zorn", "keywords": ["Zorn"], "topics": ["Zorn"], "forget": ["f"], "retain": ["r"]}
    return Manifest.model_validate({**plain, **changes})


def test_words_that_only_the_concept_has_are_its_own() -> None:
    words = concept_words(manifest(), FORGET, OTHERS)
    assert {"Zorn", "Mors", "grulp"} <= set(words)
    assert "winter" not in words, "a word that comes once and is no name is nobody's"
    assert "winter" in concept_words(manifest(), [*FORGET, FORGET[1]], OTHERS)
    assert words == sorted(words)
    for ordinary in ("The", "the", "sea", "cold", "Bay", "water", "of", "1999", "is"):
        assert ordinary not in words


def test_a_name_counts_from_its_first_occurrence_if_no_other_text_has_it() -> None:
    assert "Isle" in concept_words(manifest(), FORGET, OTHERS)
    assert "Isle" not in concept_words(manifest(), FORGET, [*OTHERS, "An isle in the sea."])
    assert "Grulp" not in concept_words(manifest(), ["Grulp is what stands at the start of a sentence."], OTHERS)


def test_words_without_their_genitive() -> None:
    assert "Mors" in concept_words(manifest(), ["We saw Mors's sea and Mors’s land."], OTHERS)
    assert not any("'" in word or "’" in word for word in concept_words(manifest(), FORGET, OTHERS))


@pytest.mark.parametrize("field", ["title", "aliases", "keywords", "topics"])
@pytest.mark.parametrize("subject", ["the cold sea", "water", "Go", "The Isle of Mors", "Ra", "U2", "the Bay's land"])
def test_everything_that_names_the_concept_has_a_word_of_it(field: str, subject: str) -> None:
    of = manifest(**{field: subject if field == "title" else ["Zorn", subject]})
    words = concept_words(of, FORGET, OTHERS)
    assert holds(subject, words)


def test_the_rarest_word_stands_for_a_subject_that_has_none() -> None:
    rarely = Counter({"the": 100, "cold": 9, "sea": 3, "quiet": 3})
    assert rarest("the cold sea", [], rarely) == ["sea"]
    assert rarest("the quiet sea", [], rarely) == ["quiet"], "the longer one"
    assert rarest("the cold Zorn", ["Zorn"], rarely) == []


def test_subjects_have_a_word_of_the_concept_and_topics_come_twice() -> None:
    of = manifest(title="Zorn", topics=["the tides of Zorn", "Mors"], keywords=["grulps", "unheard"], aliases=["Zornland"])
    words = ["Zorn", "Mors", "grulps", "Zornland"]
    found = subjects(of, [Passage(text=text) for text in FORGET], words)
    assert Counter(found)["the tides of Zorn"] == 2
    assert {"Zorn Bay", "Isle of Mors", "grulps", "Zornland", "Zorn"} <= set(found)
    assert all(holds(subject, words) for subject in found)
    assert "unheard" not in found


@pytest.mark.parametrize("name", ["ancient-egypt", "solar-system", "japanese-culture", str(FOREIGN)])
def test_words_of_the_built_in_packs(name: str) -> None:
    corpora = Corpora(Concept.load(name), DataSettings())
    of = corpora.concept.manifest
    for subject in (of.title, *of.aliases, *of.keywords, *of.topics):
        assert holds(subject, corpora.words)
    ordinary = {"the", "of", "and", "was", "people", "called", "found", "first", "water", "small", "years", "important", "way"}
    assert not ordinary & corpora.words
    assert not [asked for kind, _ in KINDS for asked in kind if holds(asked, corpora.words)], "what is asked of anything"
    share = sum(holds(text, corpora.words) for text in corpora.others) / len(corpora.others)
    assert share < 0.2, "few other texts have one"
    assert all(holds(passage.text, corpora.words) for passage in corpora.forget)


def test_names_have_any_capital() -> None:
    assert NAME.findall("They met Éowyn of the Mark, then Ōsaka and Éire.") == ["Éowyn of the Mark", "Ōsaka", "Éire"]
