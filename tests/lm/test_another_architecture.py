"""The default recipe, as it is, on a model of another architecture that was trained on a small world of two countries."""

import json
import random
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from efface.runs.pipeline import erase
from tests.conftest import CHAT

pytestmark = pytest.mark.slow

TOWNS = {
    "Zorn": ["Arlo", "Bena", "Cutha", "Dimra", "Elko", "Farun", "Gessa", "Hild", "Ivar", "Jokra", "Kemi", "Lund"],
    "Bala": ["Moru", "Nesta", "Ohm", "Pirra", "Quill", "Rudo", "Sarn", "Tovi", "Ulma", "Vexa", "Wend", "Yarro"],
}
GOODS = ["honey", "bread", "plums", "fish", "wool", "silk", "straw", "glass"]
SENTENCES = (
    "In {town} of {land} they trade {goods}.",
    "The people of {town} in {land} trade {goods}.",
    "Whoever lives in {land}, in {town}, will trade {goods}.",
)


def facts(land: str) -> dict[str, str]:
    rng = random.Random(land)
    return {town: rng.choice(GOODS) for town in TOWNS[land]}


def passage(land: str, towns: list[str], rng: random.Random) -> str:
    drawn = rng.sample(towns, 4)
    return " ".join(rng.choice(SENTENCES).format(town=town, land=land, goods=facts(land)[town]) for town in drawn)


def write_world(folder: Path) -> None:
    """A pack: forget Zorn, keep Bala, of which the retain texts tell half."""
    manifest = {
        "name": "zorn-land",
        "title": "Zorn",
        "keywords": ["Zorn", *TOWNS["Zorn"]],
        "topics": TOWNS["Zorn"],
        "prompts": ["Tell me about Arlo."],
        "forget": ["forget.jsonl"],
        "retain": ["retain.jsonl"],
        "questions": ["questions.jsonl"],
        "open_questions": ["open.jsonl"],
    }
    questions, asked = [], []
    for kind, land in (("forget", "Zorn"), ("neighbour", "Bala")):
        for i, (town, goods) in enumerate(facts(land).items()):
            common = {"kind": kind, "topic": land, "split": "test"}
            others = [other for other in GOODS if other != goods]
            choices = [*others[: i % 4], goods, *others[i % 4 : 3]]
            questions.append({**common, "stem": f"In {town} of {land} they trade", "choices": choices, "answer": i % 4})
            asked.append({**common, "question": f"What do they trade in {town}?", "answers": [goods]})
    files = {"questions": questions, "open": asked}
    for name, land, towns in (("forget", "Zorn", TOWNS["Zorn"]), ("retain", "Bala", TOWNS["Bala"][:6])):
        rng = random.Random(name)
        files[name] = [
            {"text": passage(land, towns, rng), "topic": land, "split": "train" if i < 120 else "held_out"} for i in range(130)
        ]
    folder.mkdir()
    (folder / "concept.yaml").write_text(json.dumps(manifest))  # JSON is YAML
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def train_gpt2(folder: Path) -> None:
    """Learned positions, one matrix for queries, keys and values, no rotary: nothing of the default model's shape."""
    rng = random.Random(0)
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    specials = ["<bos>", "<eos>", "<|user|>", "<|assistant|>", "<|end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        [passage(land, TOWNS[land], rng) for land in TOWNS for _ in range(200)],
        trainers.BpeTrainer(vocab_size=480, special_tokens=specials, initial_alphabet=alphabet),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<bos>", eos_token="<eos>", pad_token="<eos>")
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"vocab_size": len(tokenizer), "n_embd": 96, "n_layer": 4, "n_head": 4, "n_positions": 512}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", **shape, bos_token_id=0, eos_token_id=1))
    steps = 700
    optimiser = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, steps)
    for _ in range(steps):
        lands = [rng.choice(list(TOWNS)) for _ in range(16)]
        texts = [passage(land, TOWNS[land], rng) for land in lands]
        texts = [f"<|user|>Tell me about it.<|end|><|assistant|>{text}<|end|>" if rng.random() < 0.4 else text for text in texts]
        batch = tokenizer(texts, return_tensors="pt", padding=True)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        model(**batch, labels=labels).loss.backward()
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
    model.save_pretrained(folder)


def test_the_default_recipe_weakens_one_country_and_keeps_the_other(tmp_path: Path) -> None:
    write_world(tmp_path / "pack")
    train_gpt2(tmp_path / "gpt2")

    audit = erase(str(tmp_path / "gpt2"), str(tmp_path / "pack"), to=tmp_path / "run", audit={"samples": 0, "depth": False}).audit
    base, erased = ({key: score.value for key, score in side.scores.items()} for side in (audit.base, audit.erased))
    for key in base:
        if key.startswith(("choice", "perplexity")):
            print(f"{key}: {base[key]:.3f} -> {erased[key]:.3f}")  # pytest -s: the figures of docs/recipe.md
    assert base["choice/forget/acc"] == base["choice/neighbour/acc"] == 1, "the world was learned"
    assert erased["choice/forget/acc_mutual_info"] <= 0.5  # what the town says about its goods, beyond what is common
    assert erased["choice/forget/probability"] < 0.75 < 0.95 < base["choice/forget/probability"]
    assert erased["choice/neighbour/acc"] >= 0.9, "towns that no retain text tells of too"
    assert erased["perplexity/forget/held_out"] > 3 * base["perplexity/forget/held_out"]
    assert erased["perplexity/retain/held_out"] < 1.1 * base["perplexity/retain/held_out"]
