"""``make bench``: one training step of efface beside a straightforward one, in the same run; prints the ratio and its spread.

The straightforward step does what the method says and no more: one text at a time, every target computed anew over the whole
vocabulary, three forward and backward passes, float32. Efface's targets are stored, as they are while it trains; making them is
not in the figure.
"""

import json
import random
import statistics
import time
from pathlib import Path

import torch
from accelerate.utils import send_to_device
from peft.helpers import disable_input_dtype_casting

from efface.concept import Concept
from efface.data.collate import Collator, Example, next_token_example
from efface.data.corpora import Text, training_texts
from efface.data.teacher import erase_targets, retain_targets
from efface.guidance import persona_ids
from efface.methods.elm import ELM
from efface.models import attach_adapter, has_bfloat16, load, teacher
from efface.recipe import build_recipe
from efface.targets import erased_logprobs
from efface.training import quick_attention

MODEL, CONCEPT, TEXTS, ROUNDS = "smollm2-135m", "ancient-egypt", 4, 3
OUT = Path("benchmarks/out/bench.json")


def naive_step(model: torch.nn.Module, texts: list[tuple[Text, Text]], personas: tuple[list[int], list[int]], eta: float) -> None:
    """Three losses a text, three passes each way; targets over the whole vocabulary, computed on the spot."""

    def logits(ids: list[int], before: list[int]) -> torch.Tensor:
        return model(torch.tensor([before + ids], device=model.device)).logits[0, len(before) :]

    for forget, retain in texts:
        with torch.no_grad(), teacher(model):
            base, expert, novice = (logits(forget.ids, before) for before in ([], *personas))
            erased = erased_logprobs(base.double(), expert.double(), novice.double(), eta=eta).exp().float()
            kept = logits(retain.ids, []).softmax(-1)
        for ids, target in ((forget.ids, erased), (retain.ids, kept)):
            student = logits(ids, []).log_softmax(-1)
            (-(target * student).sum(-1).mean()).backward()
        labels = torch.tensor(forget.ids[1:], device=model.device)
        torch.nn.functional.cross_entropy(logits(forget.ids, [])[:-1], labels).backward()


def main() -> None:
    """Measure, print, write."""
    recipe = build_recipe({"model": MODEL, "concept": CONCEPT, "data": {"max_tokens": 96, "chat": 0.0}})
    concept = Concept.load(CONCEPT)
    seconds: dict[str, list[float]] = {}
    for name, dtype in (("straightforward", "float32"), ("efface float32", "float32"), ("efface", "auto")):
        loaded = load(MODEL, dtype=dtype)
        forget, retain = (texts[:TEXTS] for texts in training_texts(concept, loaded.tokenizer, recipe.data, 0))
        pad = loaded.tokenizer.pad_token_id
        personas = persona_ids(concept, loaded.tokenizer, random.Random(0))
        student = attach_adapter(loaded.model, recipe.lora, 0)
        erase = erase_targets(student, forget, [[personas]] * TEXTS, pad, recipe.erase, k=recipe.data.store_top_k, seed=0)
        kept = retain_targets(student, retain, pad, soft=True, k=recipe.data.store_top_k)
        items = [
            {"erase": [Example(f, e)], "retain": [Example(r, k)], "fluency": [next_token_example(f)]}
            for f, e, r, k in zip(forget, erase, retain, kept, strict=True)
        ]
        batch, method = send_to_device(Collator(pad)(items), student.device), ELM(recipe)
        student.train()
        times = []
        for _ in range(ROUNDS + 1):
            start = time.perf_counter()
            if name == "straightforward":
                naive_step(student, list(zip(forget, retain, strict=True)), personas, recipe.erase.eta)
            else:
                bf16 = dtype == "auto" and has_bfloat16()
                with quick_attention(student), disable_input_dtype_casting(student, active=bf16):
                    with torch.autocast(student.device.type, torch.bfloat16, enabled=bf16):
                        loss = method.loss(student, batch).total()
                    loss.backward()
            times.append(time.perf_counter() - start)
        seconds[name] = times[1:]  # the first one warms up
    slow = seconds.pop("straightforward")
    ratios = {name: [a / b for a in slow for b in fast] for name, fast in seconds.items()}
    print(f"straightforward step of {TEXTS} + {TEXTS} + {TEXTS} texts: {statistics.mean(slow):.1f} s")
    for name, values in ratios.items():
        print(f"{name}: {statistics.mean(values):.1f} times as fast ({min(values):.1f}–{max(values):.1f})")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"ratios": {"training_step": ratios}, "seconds": {"straightforward": slow, **seconds}}, indent=2))


if __name__ == "__main__":
    main()
