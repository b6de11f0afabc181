"""Corpora from the hub, read offline from folders in the hub's own layout; packs that name them; several packs in one run."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import yaml

from efface.concept.find import builtin_packs, concept_names, find_packs
from efface.concept.pack import Concept
from efface.concept.sources import Source, read_source
from efface.data.batches import weighted
from efface.data.store import Store
from efface.errors import ConceptError
from efface.lm.load import Loaded
from efface.methods import make_method
from efface.recipe.resolve import resolve
from efface.runs.pipeline import default_folder, erase
from tests.conftest import FORGET, RETAIN, write_pack

#: data set -> config -> split, column
HUB: dict[str, dict[str, tuple[str, str]]] = {
    "cais/wmdp-corpora": dict.fromkeys(("bio-retain-corpus", "cyber-forget-corpus", "cyber-retain-corpus"), ("train", "text")),
    "mickume/harry_potter_tiny": {"default": ("train", "text")},
    "philschmid/easyrag-mini-wikipedia": {"documents": ("full", "document"), "questions": ("full", "question")},
    "NeelNanda/wiki-10k": {"default": ("train", "text")},
}


def publish(root: Path, name: str, column: str | None = None, split: str | None = None) -> Path:
    """A data set as its repository on the hub looks: a card that lists its configurations, and their files."""
    folder = root / name
    configs = []
    for config, (its_split, its_column) in HUB[name].items():
        file = folder / "data" / f"{config}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = [{column or its_column: f"{config} {i}: {text}"} for i, text in enumerate((FORGET + RETAIN) * 6)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        configs.append({"config_name": config, "data_files": [{"split": split or its_split, "path": f"data/{config}.jsonl"}]})
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs})}---\n# {name}\n")
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EFFACE_DATA", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    for name in HUB:
        publish(tmp_path / "hub", name)
    bio = tmp_path / "bio.jsonl"
    bio.write_text("".join(json.dumps({"title": "t", "text": f"{i} {FORGET[0]}"}) + "\n" for i in range(40)))
    monkeypatch.setenv("EFFACE_WMDP_BIO", str(bio))
    return tmp_path / "hub"


@pytest.mark.parametrize("name", ["wmdp-bio", "wmdp-cyber", "harry-potter", "wiki-facts"])
def test_built_in_packs_read_what_they_name(name: str, hub: Path) -> None:
    concept = Concept.load(name)
    assert len(concept.texts("forget", "held_out")) == len(concept.texts("retain", "held_out")) == 32
    assert concept.texts("forget", "train")
    assert len(concept.sources) == 2
    assert all("sha256:" in what for what in concept.sources.values())
    assert concept.manifest.tasks["general"] == ("mmlu",)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("wmdp-bio", set()),
        ("wmdp-cyber", set()),
        ("harry-potter", {"retain.jsonl", "questions.jsonl", "open.jsonl"}),
        ("wiki-facts", set()),
    ],
)
def test_the_repository_holds_no_text_to_forget_of_those_packs(name: str, files: set[str]) -> None:
    assert {path.name for path in builtin_packs()[name].iterdir()} == {"concept.yaml"} | files


def test_a_gated_corpus_says_how_to_obtain_it(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EFFACE_WMDP_BIO")
    with pytest.raises(ConceptError, match=r"no file \$EFFACE_WMDP_BIO: this corpus is gated; ask for .* at https://") as caught:
        Concept.load("wmdp-bio")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("column", "has no column 'text'; it has: content"),
        ("split", "cannot be read: Unknown split"),
        ("truncated", "cannot be read: "),
        ("config", "cannot be read: BuilderConfig 'cyber-forget-corpus' not found"),
        ("gone", "cannot be read: "),
    ],
)
def test_a_data_set_that_is_not_as_expected_is_one_line(
    damage: str, says: str, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "cais/wmdp-corpora"
    if damage == "column":
        publish(hub, name, column="content")
    elif damage == "split":
        publish(hub, name, split="validation")
    elif damage == "truncated":
        file = hub / name / "data" / "cyber-forget-corpus.jsonl"
        file.write_text(file.read_text()[:-40])
    elif damage == "config":
        (hub / name / "README.md").write_text("---\nconfigs:\n- config_name: other\n  data_files: data/*.jsonl\n---\n")
    else:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setenv("EFFACE_DATA", str(hub / "elsewhere"))
    with pytest.raises(ConceptError) as caught:
        Concept.load("wmdp-cyber")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(name)


def test_a_revision_reaches_the_hub_and_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None, str | None]] = []

    class Info:
        sha = "0123abcd"

    def load(path: str, config: str | None, split: str, revision: str | None) -> datasets.Dataset:
        asked.append((path, config, revision))
        return datasets.Dataset.from_dict({"text": [f"{i} {text}" for i, text in enumerate((FORGET + RETAIN) * 6)]})

    monkeypatch.setattr("datasets.load_dataset", load)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: Info())
    concept = Concept.load("wmdp-cyber@v1:2")
    assert asked == [("cais/wmdp-corpora", f"cyber-{corpus}-corpus", "v1") for corpus in ("forget", "retain")]
    assert all(what.startswith("0123abcd sha256:") for what in concept.sources.values())


def test_rows_limits_and_files(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"body": "one"}\n\n{"body": "two"}\n{"body": "three"}\n')
    rows, what = read_source(Source(file=str(file), field="body", most=2, held_out=1, topic="x"))
    assert [(row["text"], row["topic"], row["split"]) for row in rows] == [("one", "x", "train"), ("two", "x", "held_out")]
    assert what.startswith("sha256:")
    for content, says in (
        ('{"body": "one"}\n{"bo', "a.jsonl:2: not JSON; is the file whole?"),
        ('{"text": "one"}\n', "has no column 'body'; it has: text"),
        ('["one"]\n', "has no column 'body'; it has: list"),
        ("[" * 30000, "a.jsonl:1: not JSON; is the file whole?"),
        ('{"body": "\\ud800"}\n' * 2, "2 rows left out: 2 with half of a character"),
        ('{"body": "one"}\n', "1 texts, of which 1 are to be held out"),
    ):
        file.write_text(content)
        with pytest.raises(ConceptError, match=says.replace(".", r"\.").replace("?", r"\?")):
            read_source(Source(file=str(file), field="body", held_out=1))
    file.write_bytes(bytes(range(256)))
    with pytest.raises(ConceptError, match=r"a\.jsonl:1: not JSON"):
        read_source(Source(file=str(file)))
    with pytest.raises(ValueError, match="either 'hub' or 'file'"):
        Source()


def two_packs(tmp_path: Path) -> str:
    """Two packs with personas of their own, the first to come up twice as often."""
    names = []
    for name, word in (("north", "ice"), ("south", "sand")):
        folder = tmp_path / name
        folder.mkdir()
        personas = {"expert": [f"{word} {{title}}"], "novice": [f"no {word} {{keywords}}"]}
        write_pack(folder, name=name, title=f"the {name}", personas=personas)
        lines = (folder / "forget.jsonl").read_text().replace("dragon", word)
        (folder / "forget.jsonl").write_text(lines)
        names.append(str(folder))
    return f"{names[0]}:2 {names[1]}:1"


def test_several_packs_are_one_concept(tmp_path: Path) -> None:
    both = Concept.load(two_packs(tmp_path))
    assert [weight for _, weight in both.parts] == [2, 1]
    assert (both.name, both.title) == ("north+south", "the north and the south")
    assert len(both.forget) == 8
    assert len(both.retain) == 4  # the same texts, once
    assert len(both.questions) == 12  # the same questions, once
    alone = Concept.load(str(tmp_path / "north"))
    assert alone.parts == ((alone, 1),)
    assert len({both.digest, alone.digest}) == 2


@pytest.mark.parametrize("inside", ["my packs", "a  b/c d", "x:2", "two words:3 and more"])
def test_folders_may_hold_spaces_and_colons(inside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = tmp_path / inside / "one", tmp_path / inside / "the other:1"
    for folder in (one, other, tmp_path / "plain"):
        folder.mkdir(parents=True)
        write_pack(folder, name=folder.name[:3])
    monkeypatch.chdir(tmp_path)
    for names, found, short in (
        (f"{one}", [(one, 1, None)], "one"),
        (f"{one}:3", [(one, 3, None)], "one-3"),
        (f"{one} {other}", [(one, 1, None), (other, 1, None)], "one+the other-1"),
        (
            f"{other}:2 plain ancient-egypt@main:4",
            [(other, 2, None), (Path("plain"), 1, None), (builtin_packs()["ancient-egypt"], 4, "main")],
            "the other-1-2+plain+ancient-egypt@main-4",
        ),
        (f" plain:2  {one}\n", [(Path("plain"), 2, None), (one, 1, None)], "plain-2+one"),
    ):
        assert find_packs(names) == found
        assert concept_names(names) == short
    assert Concept.load(f"{one}:2 plain").name == "one+pla"


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ("ancient-egypt:0", "whole number"),
        ("ancient-egypt:two", "whole number"),
        ("ancient-egypt ancient-egypt:2", "twice"),
        ("", "no concept"),
    ],
)
def test_wrong_weights_are_one_line(names: str, says: str) -> None:
    with pytest.raises(ConceptError, match=says):
        find_packs(names)


def test_weights_decide_how_often_a_text_comes_up(tmp_path: Path, llama: Loaded) -> None:
    both = Concept.load(two_packs(tmp_path))
    recipe = resolve(
        {"model": "m", "concept": "c", "data": {"max_tokens": 24, "chat": 0.0}, "fluency": {"texts": 3, "tokens": 8}}
    )
    corpora = make_method(recipe).prepare(llama, both, Store({"model": "joined"}))
    counts = Counter("ice" if "ice" in llama.tokenizer.decode(row.text.ids) else "sand" for row in corpora["erase"])
    assert counts["ice"] == 2 * counts["sand"] == 6
    assert len(corpora["fluency"]) == 3
    alone = make_method(recipe).prepare(llama, Concept.load(str(tmp_path / "north")), Store({"model": "joined"}))
    of_ice = {tuple(row.text.ids): row.values for row in alone["erase"]}
    for row in corpora["erase"]:
        if tuple(row.text.ids) in of_ice:  # a pack's words are those that its own retain texts hardly have
            assert torch.equal(row.values, of_ice[tuple(row.text.ids)])
    assert len(of_ice) == 3
    assert weighted([(list("abcd"), 1), (list("xy"), 1)]) == list("abcdxyxy")  # type: ignore[list-item, comparison-overlap]


def test_several_packs_in_one_run(tmp_path: Path, model_folders: dict[str, Path]) -> None:
    small: dict[str, Any] = {
        "dtype": "float32",
        "data": {"max_tokens": 24},
        "fluency": {"texts": 3, "tokens": 8},
        "train": {"steps": 2, "batch_size": 1},
        "audit": {"samples": 0, "depth": False},
    }
    names = two_packs(tmp_path)
    run = erase(str(model_folders["llama"]), names, to=tmp_path / "run", **small)
    assert run.audit.concept == "north+south"
    assert "the north and the south erased" in (run.folder / "report.html").read_text()
    assert default_folder(run.record.recipe).name.startswith("north-2+south-1-")
