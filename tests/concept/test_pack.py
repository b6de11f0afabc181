import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from efface.concept.find import builtin_packs
from efface.concept.pack import Concept, read_manifest
from efface.errors import ConceptError
from efface.writing import contains
from tests.conftest import write_pack

MANIFESTS = {name: read_manifest(folder) for name, folder in builtin_packs().items()}
ASKED = [name for name, manifest in MANIFESTS.items() if manifest.questions]
WHOLE = [name for name in ASKED if all(isinstance(source, str) for source in MANIFESTS[name].forget)]  # hold their own corpora


@pytest.fixture(params=ASKED)
def pack(request: pytest.FixtureRequest, corpora_elsewhere: str) -> Concept:
    return Concept.load(request.param)


def test_texts_of_the_right_length_each_once(pack: Concept, corpora_elsewhere: str) -> None:
    texts = [passage.text for passage in pack.forget + pack.retain if passage.text != corpora_elsewhere]
    assert len(texts) >= 60
    for text in texts:
        assert 60 <= len(text.split()) <= 150, text
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("name", WHOLE)
def test_enough_texts(name: str) -> None:
    concept = Concept.load(name)
    assert len(concept.forget) >= 80
    assert len(concept.retain) >= 160
    for corpus in ("forget", "retain"):
        assert len(concept.texts(corpus, "held_out")) >= 16


def test_what_is_kept_beside_harry_potter_does_not_speak_of_him(corpora_elsewhere: str) -> None:
    concept = Concept.load("harry-potter")
    kept = [passage.text for passage in concept.retain]
    kept += [" ".join((row.stem, *row.choices)) for row in concept.questions if row.kind != "forget"]
    kept += [" ".join((row.question, *row.answers)) for row in concept.open_questions if row.kind != "forget"]
    of_the_concept = ("potter", "hogwarts", "rowling", "quidditch", "muggle", "voldemort", "dumbledore", "hermione")
    assert [text for text in kept if any(re.search(rf"\b{word}\b", text.lower()) for word in of_the_concept)] == []


def test_enough_questions_half_of_them_for_tuning(pack: Concept) -> None:
    for kind, least in (("forget", 120), ("neighbour", 80), ("general", 100)):
        tune, test = len(pack.ask(kind, "tune")), len(pack.ask(kind, "test"))
        assert tune + test >= least
        assert abs(tune - test) <= 8
    for split in ("tune", "test"):
        assert len(pack.ask_open("forget", split)) >= 60
        assert len(pack.ask_open("neighbour", split)) >= 40


def test_choices_alone_give_nothing_away(pack: Concept) -> None:
    """Whoever sees only the choices always picks the same one of a set, and each is right equally often."""
    right: dict[tuple[str, ...], Counter[int]] = defaultdict(Counter)
    for question in pack.questions:
        right[question.choices][question.answer] += 1
    for choices, counts in right.items():
        assert len(choices) == 4
        assert set(counts) == set(range(4))
        assert len(set(counts.values())) == 1, choices


def test_no_stem_twice_and_no_answer_in_its_stem(pack: Concept) -> None:
    stems = [question.stem for question in pack.questions]
    assert len(set(stems)) == len(stems)
    for question in pack.questions:
        assert question.choices[question.answer].lower() not in question.stem.lower()
    for question in pack.open_questions:
        assert not contains(question.question, question.answers), question.question


def test_tune_and_test_share_no_set_of_choices(pack: Concept) -> None:
    sets = {split: {question.choices for question in pack.questions if question.split == split} for split in ("tune", "test")}
    assert not sets["tune"] & sets["test"]


def test_tune_and_test_share_no_open_fact(pack: Concept) -> None:
    facts = {
        split: {
            (row.kind, row.topic, frozenset(map(str.lower, row.answers))) for row in pack.open_questions if row.split == split
        }
        for split in ("tune", "test")
    }
    assert not facts["tune"] & facts["test"]


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda folder: (folder / "concept.yaml").unlink(), "holds no concept.yaml"),
        (lambda folder: (folder / "concept.yaml").write_text("name: [x"), "not readable YAML"),
        (lambda folder: write_pack(folder, colour="blue"), "colour: no such setting"),
        (lambda folder: write_pack(folder, keywords=[]), "keywords: "),
        (lambda folder: write_pack(folder, personas={"expert": ["By an expert on {topic}:"]}), "no other braces"),
        *(
            (lambda folder, field=field: write_pack(folder, personas={"novice": [f"On {field}:"]}), "no other braces")
            for field in ("{title.foo}", "{title[x]}", "{title:>99999999999}", "{title!r}", "{title", "}")
        ),
        (lambda folder: write_pack(folder, forget=["forget.jsonl"] * 2), "forget: names forget.jsonl 2 times; expected it once"),
        (lambda folder: write_pack(folder, description="\ud800"), "concept.yaml: a text holds half of a character"),
        (lambda folder: (folder / "concept.yaml").write_text("name: 2024-13-45"), "not readable YAML: month must be in 1..12"),
        (lambda folder: (folder / "forget.jsonl").write_text(""), "corpus is empty"),
        (lambda folder: (folder / "forget.jsonl").unlink(), "cannot be read"),
        (lambda folder: (folder / "retain.jsonl").write_text("{'text': 1}"), "retain.jsonl:1: not JSON"),
        (lambda folder: (folder / "retain.jsonl").write_text("[" * 30000), "retain.jsonl:1: not JSON"),
        (lambda folder: (folder / "retain.jsonl").write_text("9" * 5000), "retain.jsonl:1: not JSON"),
        (lambda folder: (folder / "retain.jsonl").write_text('{"text": "\\ud800"}'), "retain.jsonl:1: a text holds half of a"),
        (lambda folder: (folder / "retain.jsonl").write_text('{"txt": "a"}'), "retain.jsonl:1: text: Field required"),
    ],
)
def test_a_broken_pack_is_one_line(break_it: object, says: str, tmp_path: Path) -> None:
    folder = tmp_path / "zorn"
    folder.mkdir()
    write_pack(folder)
    break_it(folder)
    with pytest.raises(ConceptError) as caught:
        Concept.load(str(folder))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_answer_must_be_one_of_the_choices(tmp_path: Path) -> None:
    folder = tmp_path / "zorn"
    folder.mkdir()
    write_pack(folder)
    row = '{"kind": "forget", "topic": "", "split": "tune", "stem": "A", "choices": ["b", "c"], "answer": 2}'
    (folder / "questions.jsonl").write_text(row)
    with pytest.raises(ConceptError, match=r"questions.jsonl:1: .*index of one of the choices"):
        Concept.load(str(folder))


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("questions", {"choices": ["honey", " "]}, "questions.jsonl:1: choices.1: expected a text that is not empty"),
        ("questions", {"stem": ""}, "questions.jsonl:1: stem: expected a text that is not empty"),
        ("open", {"answers": [""]}, "open.jsonl:1: answers.0: expected a text that is not empty"),
        ("questions", None, "expected every question once, under tune or test, got 2: 'That dragon always'"),
        ("open", None, "expected every question once, under tune or test, got 2: 'What does that dragon eat?'"),
    ],
)
def test_every_question_is_filled_in_and_asked_once(
    file: str, change: dict[str, object] | None, says: str, tmp_path: Path
) -> None:
    write_pack(tmp_path)
    path = tmp_path / f"{file}.jsonl"
    first = json.loads(path.read_text().splitlines()[0])
    other = json.dumps({**first, "split": "test"} if change is None else {**first, **change}) + "\n"
    path.write_text((path.read_text() if change is None else "") + other)
    with pytest.raises(ConceptError) as caught:
        Concept.load(str(tmp_path))
    assert says in str(caught.value)


def test_no_such_pack_names_those_there_are() -> None:
    with pytest.raises(ConceptError, match="no concept pack 'atlantis'; built in: ancient-egypt"):
        Concept.load("atlantis")


def test_passages_that_ship_with_efface(tmp_path: Path) -> None:
    folder = tmp_path / "zorn"
    folder.mkdir()
    write_pack(folder, retain=["retain.jsonl", "builtin:general/retain.jsonl"])
    with_general = Concept.load(str(folder))
    assert len(with_general.retain) > 200
    write_pack(folder, retain=["builtin:general/nothing.jsonl"])
    with pytest.raises(ConceptError, match="nothing.jsonl: cannot be read"):
        Concept.load(str(folder))
