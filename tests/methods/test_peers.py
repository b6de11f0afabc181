"""The other methods: which way the forget texts' likelihood moves, and what stays as it was."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from efface.concept.pack import Concept
from efface.data.batches import Collator, next_token_example
from efface.data.corpora import Corpora, Texts
from efface.data.store import Store
from efface.data.text import Text
from efface.errors import InputError
from efface.lm.adapters import attach_adapter, read_adapter
from efface.lm.layers import teacher
from efface.lm.load import Loaded, load, weights_hash
from efface.lm.states import without_padding
from efface.losses import LossTerms
from efface.methods import NAMES, complete_recipe, find_method, make_method
from efface.methods.cir import directions, project_out
from efface.methods.idk import asked
from efface.methods.method import look
from efface.recipe.settings import LoraSettings
from efface.training import train
from tests.conftest import FORGET, RETAIN

SMALL: dict[str, Any] = {
    "model": "m",
    "concept": "c",
    "dtype": "float32",
    "data": {"max_tokens": 24, "chat": 0.5, "forget_chat": 0.5},
    "lora": {"layers": "1-2", "rank": 4},
    "train": {"steps": 10, "batch_size": 3, "lr": 0.02, "warmup_steps": 0},
}
#: which way the forget texts' likelihood moves; None: the method does not say
WAY = {
    "elm": -1,
    "gradient_ascent": -1,
    "grad_diff": -1,
    "npo": -1,
    "simnpo": -1,
    "dpo": -1,
    "idk": None,
    "rmu": -1,
    "adaptive_rmu": -1,
    "repnoise": -1,
    "circuit_breakers": -1,
    "whp": -1,
    "cir": -1,
    "random_target": -1,
    "retain_only": None,
}


@pytest.fixture(scope="module")
def taught(model_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model after it has learned the texts of both corpora, so that there is something to lose."""
    loaded, folder = load(str(model_folders["llama"]), dtype="float32"), tmp_path_factory.mktemp("taught")
    batch = loaded.tokenizer(FORGET + RETAIN, return_tensors="pt", padding=True)
    labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
    optimiser = torch.optim.AdamW(loaded.model.parameters(), lr=3e-3)
    for _ in range(80):
        loss = loaded.model(**batch, labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 1.5
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def pupil(taught: Path) -> Loaded:
    return load(str(taught), dtype="float32")


def rehearse(name: str, loaded: Loaded, concept: Concept, folder: Path, **settings: Any) -> tuple[Any, Any, float, float]:
    """Train a method for ten steps; the student, its losses, and the forget texts' loss before and after."""
    fluency = {"fluency": {"texts": 3, "tokens": 8, "min_p": 0.0}} if name == "elm" else {}
    recipe = complete_recipe({**SMALL, **fluency, "method": name, **settings})
    method = make_method(recipe)
    corpora = method.prepare(loaded, concept, Store({"model": str(folder)}))
    student = attach_adapter(loaded.model, recipe.lora, recipe.seed)

    def forget_loss(model: Any) -> float:
        texts, _ = Corpora(concept, recipe.data, loaded.tokenizer).texts
        seen = look(model, Collator(loaded.tokenizer.pad_token_id)([{"erase": [next_token_example(text) for text in texts]}]))
        with torch.no_grad():
            return float(seen["erase"].mean(seen["erase"].cross_entropy()))

    with teacher(student) as base:
        before = forget_loss(base)
    losses = train(student, loaded.tokenizer, method, corpora, recipe, folder / "checkpoints", folder / "adapter")
    return student, losses, before, forget_loss(student.eval())


def test_every_method_has_its_line_here() -> None:
    assert set(WAY) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_which_way_it_moves_and_what_stays(name: str, pupil: Loaded, zorn: Concept, tmp_path: Path) -> None:
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    frozen = {key: value.clone() for key, value in pupil.model.state_dict().items()}
    before = pupil.model(ids).logits.clone()
    student, losses, was, now = rehearse(name, pupil, zorn, tmp_path)
    if WAY[name] is not None:
        assert (now - was) * WAY[name] < -0.01, (was, now)
    elif name == "retain_only":
        assert losses[-1]["retain"] < 1.1 * losses[0]["retain"]  # it starts at its minimum
    else:  # what it minimises itself falls
        assert losses[-1]["erase"] < 0.9 * losses[0]["erase"]
    with teacher(student) as base:  # the frozen model is what it was
        torch.testing.assert_close(base(ids).logits, before)
    for key, value in student.unload().state_dict().items():
        assert torch.equal(value, frozen[key]), key
    terms = {"retain_only": {"retain"}, "gradient_ascent": {"erase"}, "elm": {"erase", "retain", "fluency"}}
    assert set(losses[-1]) & {"erase", "retain", "fluency"} == terms.get(name, {"erase", "retain"})
    assert all(math.isfinite(entry["loss"]) for entry in losses)


@pytest.mark.parametrize("name", ["npo", "cir", "circuit_breakers"])
def test_full_weights(name: str, llama: Loaded, zorn: Concept, tmp_path: Path) -> None:
    lora = {"layers": "1-2", "rank": 0}
    student, _, was, now = rehearse(name, llama, zorn, tmp_path, lora=lora, train={**SMALL["train"], "lr": 0.002})
    assert now != was
    assert not list((tmp_path / "adapter").glob("*.bin"))
    ids, hashed = torch.tensor([[5, 6, 7, 8, 9]]), weights_hash(student)
    logits = student(ids).logits
    again = read_adapter(Loaded(student.unload(), llama.tokenizer, "", ""), tmp_path / "adapter")
    torch.testing.assert_close(again(ids).logits, logits)
    assert weights_hash(again) == hashed
    with teacher(again) as base:
        assert (base(ids).logits - logits).abs().max() > 1e-3
    torch.testing.assert_close(again.merge_and_unload()(ids).logits, logits)


def test_whp_has_options_and_keeps_its_labels(pupil: Loaded, zorn: Concept, monkeypatch: pytest.MonkeyPatch) -> None:
    def labels(**settings: Any) -> list[list[int]]:
        recipe = complete_recipe({**SMALL, "method": "whp", "options": {"steps": 2}, **settings})
        corpora = make_method(recipe).prepare(pupil, zorn, Store({"model": "whp"}))
        return [example.target.ids[:, 0].tolist() for example in corpora["erase"]]

    first = labels()
    monkeypatch.setattr("efface.methods.whp.train", lambda *_: pytest.fail("trained again"))
    assert labels(seed=3, erase={"weight": 9.0}) == first  # of the student's training nothing enters
    monkeypatch.undo()
    assert labels(options={"steps": 12, "lr": 0.05, "alpha": 5.0}) != first


def test_pairs_for_texts_that_stand_alone(llama: Loaded, zorn: Concept) -> None:
    settings = complete_recipe({**SMALL, "data": {"max_tokens": 24, "chat": 0.0, "forms": 0}}).data
    corpora = Corpora(zorn, settings, llama.tokenizer)
    for bare, answer in zip(corpora.texts.forget, asked(llama, corpora), strict=True):
        assert llama.tokenizer.decode(answer.ids[answer.start :]) == llama.tokenizer.decode(bare.ids)
        assert "the dragon of Zorn.<|end|>" in llama.tokenizer.decode(answer.ids[: answer.start])
    in_chat = Corpora(zorn, settings.model_copy(update={"forget_chat": 1.0}), llama.tokenizer)
    assert asked(llama, in_chat) == in_chat.texts.forget


@pytest.mark.parametrize("rank", [0, 4])
def test_cir_keeps_the_update_out_of_its_directions(rank: int, llama: Loaded) -> None:
    student = attach_adapter(llama.model, LoraSettings(rank=rank, layers="1"), 0)
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    name = next(name for name, _ in student.named_modules() if name.endswith("1.self_attn.q_proj"))
    module = student.get_submodule(name)
    read, written = (torch.linalg.qr(torch.randn(32, 3))[0] for _ in range(2))
    project_out(module, read, written)
    base = module.base_layer.weight
    update = module.get_delta_weight("default") if rank else module.ln_tuning_layers["default"].weight - base
    assert update.abs().max() > 1e-3
    assert (update @ read).abs().max() < 1e-5
    assert (written.T @ update).abs().max() < 1e-5


def test_a_batch_with_one_text_after_the_other_has_the_same_terms(llama: Loaded, zorn: Concept) -> None:
    """Pairs, reference log-probabilities and inner states find their tokens whatever the padding."""
    for name in ("dpo", "npo", "circuit_breakers", "repnoise"):
        recipe = complete_recipe({**SMALL, "method": name, "options": {"beta": 0.0} if name == "repnoise" else {}})
        method = make_method(recipe)
        corpora = method.prepare(llama, zorn, Store({"model": "llama"}))
        torch.manual_seed(1)
        student = attach_adapter(llama.model, recipe.lora, 0).eval()
        with torch.no_grad():
            for parameter in student.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        collate = Collator(llama.tokenizer.pad_token_id)
        items = [{term: [rows[i]] for term, rows in corpora.items()} for i in range(3)]
        terms: list[LossTerms] = [method.loss(student, collate([item])) for item in items]
        together = method.loss(student, collate(items))
        assert together.retain is not None
        torch.testing.assert_close(together.retain, torch.stack([of.retain for of in terms]).mean())  # type: ignore[misc]
        if name in ("dpo", "npo"):  # the others take a logarithm of a mean, or random draws
            torch.testing.assert_close(together.erase, torch.stack([of.erase for of in terms]).mean())  # type: ignore[misc]
        student.unload()


def test_cir_where_it_cannot_work(llama: Loaded) -> None:
    with pytest.raises(InputError, match="expected a layer other than the first"):
        make_method(complete_recipe({**SMALL, "method": "cir", "lora": {"layers": "0"}})).layers(llama.model)
    nothing = make_method(complete_recipe({**SMALL, "method": "cir", "erase": {"weight": 0.0}}))
    assert nothing.constrain(llama.model, list) is None  # type: ignore[arg-type]
    assert directions(torch.randn(5, 4), 50).shape == (4, 3)


def test_cir_leaves_padding_and_first_tokens_out(llama: Loaded, zorn: Concept) -> None:
    """The directions are the same however the texts are batched, with padding or without."""
    recipe = complete_recipe({**SMALL, "method": "cir"})
    method = make_method(recipe)
    texts, _ = Corpora(zorn, recipe.data, llama.tokenizer).texts
    short = [Text(text.ids[: 6 + 3 * i], 1) for i, text in enumerate(texts[:3])]
    examples = method.examples(llama, SimpleNamespace(texts=Texts(short, [])), Store({"model": "llama"}))
    assert [example.text.start for example in examples] == [2, 2, 2]
    student, collate = attach_adapter(llama.model, recipe.lora, 0), Collator(llama.tokenizer.pad_token_id)
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)

    def watched(*batches: list[int]) -> torch.Tensor:
        rows = [collate([{"erase": [examples[i]]} for i in batch]) for batch in batches]
        inputs, _ = method._watch(student, lambda: rows)  # type: ignore[attr-defined]
        return next(iter(inputs.values()))

    padded = watched([0, 1, 2])
    assert len(padded) == sum(len(text.ids) - 1 for text in short)
    torch.testing.assert_close(padded, watched([0], [1], [2]), atol=1e-4, rtol=1e-4)
    with without_padding(student):
        torch.testing.assert_close(padded, watched([0, 1, 2]), atol=1e-4, rtol=1e-4)


def test_names_and_options_that_are_not_there_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no method 'rmv'; there are: adaptive_rmu, cir"):
        find_method("rmv")
    assert find_method("grad-diff").__name__ == "GradDiff"
    recipe = complete_recipe({"model": "m", "concept": "c", "method": "npo", "options": {"betta": 1.0}})
    with pytest.raises(InputError, match="options of npo: betta: no such setting, got 1.0"):
        make_method(recipe)
    with pytest.raises(InputError, match="no method file"):
        find_method(str(tmp_path / "mine.py"))
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(InputError, match="expected one class that extends Method, got 0"):
        find_method(str(tmp_path / "empty.py"))
    (tmp_path / "broken.py").write_text("import nothing_like_it")
    with pytest.raises(InputError, match="cannot be imported: ModuleNotFoundError"):
        find_method(str(tmp_path / "broken.py"))


def test_what_the_method_asks_for_stands_between_preset_and_user() -> None:
    common = {"model": "m", "concept": "c"}
    assert complete_recipe({**common, "method": "rmu"}).lora.layers == "16%-25%"
    assert complete_recipe({**common, "method": "rmu", "preset": "paper"}).lora.layers == "16%-25%"
    assert complete_recipe({**common, "method": "rmu", "lora": {"layers": "3"}}).lora.layers == "3"
    assert complete_recipe(common).lora.layers == "0%-57%"
    assert complete_recipe({**common, "method": "rmu"}).train.lr == 4e-3, "what its erase weight was found with"
    assert complete_recipe({**common, "method": "rmu", "preset": "paper"}).train.lr == 5e-5
    alike = complete_recipe(common).train
    for method in ("random_target", "retain_only", "examples/my_method.py"):
        assert complete_recipe({**common, "method": method}).train == alike, "controls are trained as ELM is"
