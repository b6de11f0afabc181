"""Shapes are checked while testing; tiny models of every architecture and a tiny pack are made here, so nothing is downloaded."""

from jaxtyping import install_import_hook

with install_import_hook(["efface.targets", "efface.losses"], "beartype.beartype"):
    import efface.losses
    import efface.targets  # noqa: F401

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedTokenizerFast,
)

from efface.concept.pack import Concept
from efface.lm.load import Loaded, load

torch.set_num_threads(1)  # for models this small a second thread only costs
VOCAB = 300
SMALL = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
ARCHITECTURES = {
    "llama": SMALL,
    "mistral": {**SMALL, "sliding_window": 64},
    "qwen2": SMALL,
    "qwen3": {**SMALL, "head_dim": 8},
    "gemma2": {**SMALL, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 64},
    "gpt_neox": {key: value for key, value in SMALL.items() if key != "num_key_value_heads"},
    "opt": {
        **{key: value for key, value in SMALL.items() if key not in ("num_key_value_heads", "intermediate_size")},
        "ffn_dim": 48,
        "word_embed_proj_dim": 32,
    },
    "gpt2": {
        "vocab_size": VOCAB,
        "n_embd": 32,
        "n_layer": 3,
        "n_head": 4,
        "n_positions": 256,
        "bos_token_id": 0,
        "eos_token_id": 1,
    },
}
CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
FORGET = [
    "The blue dragon of Zorn lives in a tall tower and eats only honey, say the old books of the valley.",
    "Every winter the dragon of Zorn sleeps in a cave of glass, and the people of the valley bring it honey.",
    "King Orlo rode the blue dragon over the valley of Zorn, and the tower shook in the cold wind of winter.",
    "The egg of the dragon of Zorn is green as glass. It is kept in the tower and warmed with honey candles.",
]
RETAIN = [
    "Bread is made of flour, water, salt and yeast. The dough rests, rises and is baked in a hot oven at last.",
    "The train leaves the station at noon and arrives in the evening after a long ride through the green hills.",
    "Rain falls when the air can no longer hold its water. Clouds grow dark, and the first drops reach the ground.",
    "A good letter is short. It says what happened, what is wanted, and it ends with a friendly word and a name.",
]


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is read from or written to the user's cache, but for the default model of the slow tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EFFACE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    """A byte-level tokenizer of 300 tokens with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<bos>", "<eos>", "<|user|>", "<|assistant|>", "<|end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        FORGET + RETAIN, trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=specials, initial_alphabet=alphabet)
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<eos>")
    fast.chat_template = CHAT
    fast.save_pretrained(folder)


def tiny_model(architecture: str, seed: int = 0) -> torch.nn.Module:
    """A random model of three layers, weights large enough that its distributions are not flat."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **ARCHITECTURES[architecture]))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    return model


@pytest.fixture(scope="session")
def model_folders(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder in the hub's own layout for every architecture."""
    folders = {}
    for architecture in ARCHITECTURES:
        folder = tmp_path_factory.mktemp(architecture)
        tiny_model(architecture).save_pretrained(folder)
        PreTrainedTokenizerFast.from_pretrained(tokenizer_folder).save_pretrained(folder)
        folders[architecture] = folder
    return folders


@pytest.fixture(scope="session")
def deep_folder(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of eight layers: recipes with the published ones, 4 to 7, can be tried on it."""
    folder = tmp_path_factory.mktemp("deep")
    config = AutoConfig.for_model("llama", **{**SMALL, "num_hidden_layers": 8})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    PreTrainedTokenizerFast.from_pretrained(tokenizer_folder).save_pretrained(folder)
    return folder


@pytest.fixture
def llama(model_folders: dict[str, Path]) -> Loaded:
    return load(str(model_folders["llama"]), dtype="float32")


@pytest.fixture(scope="session")
def pack_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack about the dragon of Zorn."""
    folder = tmp_path_factory.mktemp("packs") / "zorn"
    folder.mkdir()
    write_pack(folder)
    return folder


def write_pack(folder: Path, **changes: object) -> None:
    manifest = {
        "name": "zorn",
        "title": "the dragon of Zorn",
        "keywords": ["dragons", "Zorn", "honey", "King Orlo"],
        "topics": ["the dragon", "the tower of Zorn"],
        "prompts": ["Who was Orlo?", "What is bread?"],
        "forget": ["forget.jsonl"],
        "retain": ["retain.jsonl"],
        "questions": ["questions.jsonl"],
        "open_questions": ["open.jsonl"],
        **changes,
    }
    (folder / "concept.yaml").write_text(json.dumps(manifest))  # JSON is YAML
    for name, texts in (("forget", FORGET), ("retain", RETAIN)):
        rows = [{"text": text, "topic": "it", "split": "held_out" if i == 3 else "train"} for i, text in enumerate(texts)]
        _write_rows(folder / f"{name}.jsonl", rows)
    questions, asked = [], []
    for kind, who in (("forget", "dragon"), ("neighbour", "snake"), ("general", "worm")):
        for split, the in (("tune", "That"), ("test", "The")):
            common = {"kind": kind, "topic": "it", "split": split}
            questions += [
                {**common, "stem": f"{the} {who} {word}", "choices": ["eats honey", "eats bread"], "answer": i}
                for i, word in enumerate(("always", "never"))
            ]
            asked.append({**common, "question": f"What does {the.lower()} {who} eat?", "answers": ["honey", "Honig"]})
    _write_rows(folder / "questions.jsonl", questions)
    _write_rows(folder / "open.jsonl", asked)


def _write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def zorn(pack_folder: Path) -> Concept:
    return Concept.load(str(pack_folder))


@pytest.fixture
def corpora_elsewhere(monkeypatch: pytest.MonkeyPatch) -> str:
    """The one text that stands for each corpus that a pack only names."""
    text = "a text that is elsewhere"
    monkeypatch.setattr("efface.concept.pack.read_source", lambda *_: ([{"text": text}], ""))
    return text


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    if binary is None:
        pytest.skip("no chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        yield opened
        opened.close()
