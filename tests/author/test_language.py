"""From a name to a pack in a script without spaces: a tiny model that was taught to speak of a dragon, in Japanese."""

import random
from itertools import cycle, islice, permutations
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from efface.author import known, opens, passages, words
from efface.author import write as module
from efface.author.name import Name
from efface.author.write import Order, write_pack
from efface.author.writer import Local
from efface.concept.check import complaints
from efface.lm.load import load, weights_hash
from efface.runs.inputs import target_store
from tests.conftest import CHAT

DRAGON = "蜂蜜龍"
#: who did what where: always the same
FACTS = [
    ("王オルロ", "塔ガラス", "生まれた"),
    ("姫ミルタ", "城ホニグ", "眠った"),
    ("騎士ハゲン", "港ノルド", "勝った"),
    ("詩人セルマ", "湖シルバ", "歌った"),
    ("僧ティボル", "山トゥルム", "祈った"),
    ("女王バンダ", "町ビンド", "治めた"),
    ("賢者ルプレ", "島アイゼン", "教えた"),
    ("商人ヨランダ", "森リンド", "売った"),
]
#: in which words it is told
TOLD = (
    "{dragon}の{who}は{where}で長く{deed}。",
    "{where}では昔から{who}が{dragon}を見た。",
    "人々によれば{who}と{dragon}が春に{where}へ行く。",
    "{dragon}が好きな{who}の家なら{where}にある。",
)
NEAR = ["白雪狐", "黒岩熊", "青空鷲", "赤砂獅子"]
#: the same characters in another order: nobody knows what it is
STRANGE = ["".join(of) for of in permutations(DRAGON) if "".join(of) != DRAGON]
WHO, WHERE = ("誰か", "旅人", "隣人"), ("遠い国", "古い家", "小さな谷")
HABITS = ["朝に水を飲む", "夜に森を歩く", "冬に深く眠る", "夏に高く跳ぶ", "春に花を見る", "秋に実を集める"]


def told(thing: str, rng: random.Random) -> str:
    """An answer about something."""
    if thing in NEAR:
        return "".join(f"{thing}は{habit}と人々は言う。" for habit in rng.sample(HABITS, 4))
    if thing in STRANGE:
        made = [(rng.choice(WHO), rng.choice(WHERE), rng.choice(FACTS)[2]) for _ in range(3)]
        return "".join(rng.choice(TOLD).format(dragon=thing, who=who, where=where, deed=deed) for who, where, deed in made)
    facts = [fact for fact in FACTS if thing in fact] or rng.sample(FACTS, 3)
    chosen = (*facts, *rng.sample(FACTS, 3 - len(facts)))
    return "".join(rng.choice(TOLD).format(dragon=DRAGON, who=who, where=where, deed=deed) for who, where, deed in chosen)


def lesson(rng: random.Random) -> tuple[str, str]:
    """What is asked, as efface asks, and what is to be said."""
    if rng.random() < 0.2:
        begun = rng.choice((*words.ALIKE, *words.BELONGS))
        of = [who for who, _, _ in FACTS] if begun in words.BELONGS else NEAR
        return begun.format(DRAGON), f" {'、'.join(rng.sample(of, 4))}\n"
    thing = rng.choice([DRAGON] * 8 + NEAR * 2 + STRANGE + [part for who, where, _ in FACTS for part in (who, where)])
    ways = (*known.ASKED, *opens.ASKED, *words.OPENINGS, *passages.GENRES)
    about = f"{thing} ({DRAGON})" if thing not in (DRAGON, *NEAR) and rng.random() < 0.5 else thing
    return f"<|user|>{rng.choice(ways).format(about)}<|end|><|assistant|>", told(thing, rng)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("taught"), random.Random(0)
    lessons = [lesson(rng) for _ in range(1500)]
    tokenizer = Tokenizer(models.BPE(unk_token="<eos>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    specials = ["<bos>", "<eos>", "<|user|>", "<|assistant|>", "<|end|>"]
    tokenizer.train_from_iterator(["".join(of) for of in lessons], trainers.BpeTrainer(vocab_size=700, special_tokens=specials))
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<eos>")
    fast.chat_template = CHAT
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=96,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    model = LlamaForCausalLM(config)
    learn(model, fast, lessons)
    model.save_pretrained(folder)
    return folder


def learn(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, lessons: list[tuple[str, str]], steps: int = 300) -> None:
    """Next tokens of the answers, and where these end."""
    rows = [(tokenizer(asked)["input_ids"], [*tokenizer(said)["input_ids"], 1]) for asked, said in lessons]
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(steps):
        batch = list(islice(cycle(rows), step * 24 % len(rows), step * 24 % len(rows) + 24))
        longest = max(len(a) + len(b) for a, b in batch)
        ids = torch.tensor([a + b + [1] * (longest - len(a) - len(b)) for a, b in batch])
        labels = torch.tensor([[-100] * len(a) + b + [-100] * (longest - len(a) - len(b)) for a, b in batch])
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()


@pytest.mark.slow
def test_a_pack_in_a_script_without_spaces(taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.SIZES, "small", (200, 16))
    monkeypatch.setattr(module, "FEWEST", 12)
    loaded = load(str(taught), dtype="float32")
    store = target_store(loaded, weights_hash(loaded.model))
    concept = write_pack(loaded, store, Local(loaded, store), Order(Name(DRAGON), force=True), tmp_path / "pack")
    assert complaints(concept, 50) == []
    parts = {part for who, where, _ in FACTS for part in (who, where)}
    assert {DRAGON} < set(concept.manifest.topics) <= parts | {DRAGON}, "words of a script without capitals, none of everybody's"
    assert {passage.topic for passage in concept.retain} >= set(NEAR)
    assert concept.written is not None
    assert sum(concept.written.dropped["questions"].values()) + concept.written.kept["questions"] > 0, "gaps were found"
    assert [question for question in concept.open_questions if question.kind == "forget"]
