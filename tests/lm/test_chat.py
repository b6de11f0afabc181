"""Prompts arrive: whatever a chat template wants to be told, and whatever tokens a tokenizer has or lacks."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from efface.auditing.forms import Asked
from efface.auditing.scorers.forms import encode
from efface.auditing.scorers.harness import ask, score_tasks
from efface.auditing.scorers.said import score_said
from efface.auditing.subject import Subject
from efface.concept.pack import Concept, Question
from efface.data.fluency import end_of_answer
from efface.errors import ModelError
from efface.lm.chat import chat_prompt, chat_text, prefix
from efface.lm.load import Loaded, load
from efface.recipe.settings import AuditSettings
from efface.runs.pipeline import erase
from tests.conftest import CHAT
from tests.runs.conftest import SMALL

#: shows parts only: of a text it sees letters, none of which has a type
PARTS = CHAT.replace(
    "{{ m['content'] }}", "{% for part in m['content'] %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}"
)
FIRST_PART = CHAT.replace("{{ m['content'] }}", "{{ m['content'][0]['text'] }}")
DEMANDS = "{% if messages[0]['role'] != 'system' %}{{ raise_exception('expected a system turn first') }}{% endif %}"
#: what a template sees as the system turn, whoever says it, and does not show
SWALLOWS = CHAT.replace("in messages", "in messages[1:]")
NOTHING = CHAT.replace("{{ m['content'] }}", "")


@pytest.fixture
def tokenizer(tokenizer_folder: Path) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)


@pytest.fixture
def folder(model_folders: dict[str, Path], tmp_path: Path) -> Path:
    return shutil.copytree(model_folders["llama"], tmp_path / "model")


@pytest.mark.parametrize("template", [PARTS, FIRST_PART, CHAT])
def test_a_question_arrives_as_text_or_in_parts(template: str, tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = template
    assert tokenizer.decode(chat_prompt(tokenizer, "Who was Orlo?")) == "<|user|>Who was Orlo?<|end|><|assistant|>"
    turns = [("system", "Be brief."), ("user", "One?"), ("assistant", "Yes."), ("user", "Two?")]
    told = "<|system|>Be brief.<|end|><|user|>One?<|end|><|assistant|>Yes.<|end|><|user|>Two?<|end|><|assistant|>"
    assert chat_text(tokenizer, turns) == told


def test_an_answer_in_parts_ends_with_its_token(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = PARTS
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    assert end_of_answer(tokenizer, {1, end}) == end


@pytest.mark.parametrize("template", [DEMANDS + CHAT, DEMANDS + PARTS, SWALLOWS])
def test_a_template_that_demands_a_system_turn_gets_one(template: str, tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = template
    asked = tokenizer.decode(chat_prompt(tokenizer, "Who was Orlo?"))
    assert asked.endswith("<|user|>Who was Orlo?<|end|><|assistant|>")
    assert ("<|system|>You are a helpful assistant.<|end|>" in asked) == (template != SWALLOWS)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (NOTHING, "it does not show what is said in the turns user, neither as text nor in parts"),
        (CHAT.replace("messages", "conversation"), "it does not show what is said"),
        ("{{ raise_exception('only tools') }}", "cannot be used: only tools"),
        ("{{ messages[0]['content']['text']['en'] }}", "cannot be used"),
        ("{% for m in messages %}", "cannot be used"),
    ],
)
def test_a_template_that_shows_no_question_is_one_line(template: str, says: str, folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(ModelError, match="the chat template of") as caught:
        load(str(folder))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_form_whose_turns_do_not_all_arrive_is_left_out(llama: Loaded, zorn: Concept) -> None:
    llama.tokenizer.chat_template = CHAT.replace("in messages", "in messages[-1:]")  # forgets what was said before
    scores = score_said(Subject(llama.model, llama.tokenizer, zorn, "test"))
    forms = {key.split("/")[1] for key in scores}
    assert "paraphrased" in forms
    assert not forms & {"follow_up", "system"}


def test_public_tasks_in_chat_arrive_in_parts(
    llama: Loaded, zorn: Concept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from efface.auditing.scorers.harness import export_tasks

    export_tasks(zorn, tmp_path)
    llama.tokenizer.chat_template = PARTS
    seen: list[str] = []
    encoder = type(llama.tokenizer).encode
    monkeypatch.setattr(
        type(llama.tokenizer), "encode", lambda self, text, **more: seen.append(text) or encoder(self, text, **more)
    )
    settings = AuditSettings(tasks=("zorn_forget_test",), task_folder=str(tmp_path), chat=True)
    assert score_tasks(Subject(llama.model, llama.tokenizer, zorn, "test", settings))
    asked = [text for text in seen if "<|user|>" in text]
    assert asked
    assert all("<|user|>The dragon" in text for text in asked)


def specials(folder: Path, **names: str) -> PreTrainedTokenizerFast:
    """The folder's tokenizer with these special tokens and no other."""
    inner = PreTrainedTokenizerFast.from_pretrained(folder)._tokenizer
    return PreTrainedTokenizerFast(tokenizer_object=inner, **names)


@pytest.mark.parametrize("names", [{"eos_token": "<eos>"}, {}])
def test_a_token_to_pad_with_that_has_no_embedding_is_another(names: dict[str, str], folder: Path) -> None:
    specials(folder, **names, pad_token="<pad>").save_pretrained(folder)
    loaded = load(str(folder))
    assert len(loaded.tokenizer) == 301
    assert loaded.tokenizer.pad_token_id == loaded.model.generation_config.pad_token_id == (1 if names else 0)


@pytest.mark.parametrize(
    ("change", "token"),
    [
        (lambda t: t.add_special_tokens({"eos_token": "<|stop|>"}), "<|stop|>"),
        (lambda t: t.add_tokens(["zymurgy"]), "zymurgy"),
        (lambda t: t.add_tokens([AddedToken("<|user|> ", special=True)]), "<|user|> "),
    ],
)
def test_a_token_without_an_embedding_is_one_line(change: Any, token: str, folder: Path) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    change(tokenizer)
    tokenizer.chat_template = CHAT.replace("|>{{", "|> {{")
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError) as caught:
        load(str(folder))
    assert str(caught.value).endswith(f"does not fit: expected ids below 300, got 300 for {token!r}")


def test_what_ends_every_text_is_no_part_of_a_context(llama: Loaded, zorn: Concept) -> None:
    """Of a tokenizer that puts a token behind every text, questions are what they are without it."""
    questions = {
        "task": [Question(kind="forget", topic="", split="test", stem="The dragon eats", choices=("honey", "bread"), answer=0)]
    }
    found = []
    for after in ("", " <eos>"):
        llama.tokenizer._tokenizer.post_processor = TemplateProcessing(f"<bos> $A{after}", None, [("<bos>", 0), ("<eos>", 1)])
        (sample,) = ask(Subject(llama.model, llama.tokenizer, zorn, "test"), questions)["task"]
        row = encode(llama.tokenizer, Asked("The dragon eats", (" honey",)))
        assert 1 not in (*row.context, *row.choices[0])
        found.append(([of[0] for of in sample["filtered_resps"]], row))
    assert found[0] == found[1]
    assert prefix(llama.tokenizer) == [0]


def test_a_model_without_special_tokens_is_erased_and_audited(folder: Path, pack_folder: Path, tmp_path: Path) -> None:
    """Its chat template reads parts, besides."""
    specials(folder).save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(PARTS)
    model = load(str(folder)).model
    model.generation_config.eos_token_id = model.generation_config.bos_token_id = None
    model.generation_config.save_pretrained(folder)
    run = erase(str(folder), str(pack_folder), to=tmp_path / "run", **SMALL, audit={"samples": 0, "depth": False})
    for key in ("choice/forget/acc_mutual_info", "open/forget/right", "said/follow_up/forget/right"):
        assert torch.isfinite(torch.tensor(run.audit.erased.scores[key].value))
