"""One measurement of ``bench.py``: python -m benchmarks.measure '{"who": "efface", "part": "targets", …}' prints JSON."""

import ctypes
import json
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from accelerate.utils import send_to_device
from peft.helpers import disable_input_dtype_casting
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks import straightforward
from efface.concept.pack import Concept
from efface.cpu.memory import give_back
from efface.data.batches import Collator, Example, Schedule, next_token_example
from efface.data.corpora import Corpora
from efface.data.fluency import Sampling, sample_fluency
from efface.data.prompts import fluency_prompts
from efface.data.store import Store, shrink
from efface.data.targets import retain_targets, text_states
from efface.data.text import Text
from efface.data.tilted_targets import Tilt, draw_personas, erase_targets
from efface.decoding import persona_ids
from efface.lm.adapters import attach_adapter
from efface.lm.layers import bare, decoder_layers, parse_layers
from efface.lm.load import Loaded, has_bfloat16, load
from efface.lm.states import without_padding
from efface.methods.elm import ELM
from efface.recipe.presets import PRESETS
from efface.recipe.recipe import Recipe, merge, nested
from efface.recipe.resolve import resolve
from efface.training import ready, train

#: plainly sampled fluency texts, which the straightforward implementation has too, under the guidance of the public code
SAMPLING = {"fluency": {"eta": 3.0}, "published": {"deflection": False}}
#: the default recipe with the published target on plain passages, every token alike, and plainly sampled tokens
PLAIN: dict[str, Any] = {
    "erase": {"target": "tilted", "keyness": 0.0},
    "fluency": {**PRESETS["paper"]["fluency"], "ratio": 2},
    "data": {"forms": 0, "kept": 0, "neighbours": 0},
}
#: no sampled text ends early, so that both sample as many tokens
NO_END: set[int] = set()


class Measurement:
    """Model, texts and settings of one task; a method for each part and implementation."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.task, self.rounds = task, task["rounds"]
        settings: dict[str, Any] = PLAIN if task["preset"] == "default" else {"preset": task["preset"]}
        settings = merge(merge(settings, SAMPLING), {"data": {"max_tokens": task.get("length", 128)}})
        if "texts" in task:
            settings = merge(settings, {"train": {"batch_size": task["texts"], "accumulation": 1}})
        settings = merge(settings, nested({name: value for name, value in task.items() if "." in name}))
        self.recipe: Recipe = resolve({**{name: task[name] for name in ("model", "concept", "dtype")}, **settings})
        loaded = load(task["model"], dtype=task["dtype"])
        if "vocabulary" in task:
            loaded = with_vocabulary(loaded, task["vocabulary"])
        self.tokenizer, self.concept = loaded.tokenizer, Concept.load(task["concept"])
        self.pad = self.tokenizer.pad_token_id
        self.size = size = task.get("vocabulary", len(self.tokenizer))
        forget, retain = (
            [Text([token % size for token in text.ids], text.start) for text in texts]
            for texts in Corpora(self.concept, self.recipe.data, self.tokenizer).texts
        )
        self.forget, self.retain = forget[: task["forget"]], retain[: task["retain"]]
        self.fluency = self.recipe.fluency.model_copy(update={"texts": task["fluency"]})
        self.drawn = draw_personas(len(self.forget), 1, lambda rng: self.persona(rng, size), 0)
        prompts = fluency_prompts(self.concept, self.forget, self.tokenizer, self.fluency, random.Random(0))
        self.prompts = [[token % size for token in prompt] for prompt, _ in prompts]
        self.store = Store({"model": "bench"})
        self.student = attach_adapter(loaded.model, self.recipe.lora, 0)
        self.loaded = Loaded(self.student, self.tokenizer, "", "")  # type: ignore[arg-type]
        self.before = peak_mib(reset=True)

    def persona(self, rng: random.Random, size: int) -> tuple[list[int], list[int]]:
        expert, novice = persona_ids(self.concept, self.tokenizer, rng)
        return [token % size for token in expert], [token % size for token in novice]

    def run(self) -> dict[str, Any]:
        """Seconds of every round, what it does (trained texts, or predicted tokens), peak memory above what the model took."""
        random.seed(0)
        torch.manual_seed(0)
        result: dict[str, Any] = getattr(self, f"{self.task['who']}_{self.task['part']}")()
        return {**result, "peak_mib": peak_mib() - self.before}

    def timed(self, work: Any, amount: int, warm: bool = True) -> dict[str, Any]:
        if warm:
            work()
        seconds = []
        for _ in range(self.rounds):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
        return {"seconds": seconds, "amount": amount}

    # target building: both corpora
    def straightforward_targets(self) -> dict[str, Any]:
        def work() -> None:
            for text, pairs in zip(self.forget, self.drawn, strict=True):
                straightforward.erase_target(self.student, text, pairs[0], self.recipe.erase)
            for text in self.retain:
                straightforward.retain_target(self.student, text)

        return self.timed(work, self.predicted())

    def predicted(self) -> int:
        """Tokens of both corpora that have a target."""
        return sum(len(text.ids) - text.start for text in [*self.forget, *self.retain])

    def efface_targets(self) -> dict[str, Any]:
        def work() -> None:
            shrink(0)
            self.targets()

        return self.timed(work, self.predicted())

    def targets(self) -> tuple[list[Example], list[Example]]:
        k, model = self.recipe.data.store_top_k, self.student
        tilt = Tilt(self.recipe.erase, self.pad, k, double=self.recipe.published.float64)  # type: ignore[arg-type]
        erase = erase_targets(model, self.store, self.forget, self.drawn, tilt)  # type: ignore[arg-type]
        kept = retain_targets(model, self.store, self.retain, self.pad, k=k).targets  # type: ignore[arg-type]
        return [Example(*pair) for pair in zip(self.forget, erase, strict=True)], [
            Example(*pair) for pair in zip(self.retain, kept, strict=True)
        ]

    # fluency texts
    def straightforward_fluency(self) -> dict[str, Any]:
        def work() -> None:
            for prompt in self.prompts:
                straightforward.sample(self.student, prompt, self.drawn[0][0], NO_END, self.fluency)

        return self.timed(work, len(self.prompts) * self.fluency.tokens, warm=False)

    def efface_fluency(self) -> dict[str, Any]:
        def work() -> None:
            shrink(0)
            self.sampled()

        return self.timed(work, len(self.prompts) * self.fluency.tokens, warm=False)

    def sampled(self) -> list[Example]:
        how = Sampling(
            self.fluency, float(self.fluency.eta or 0), 0, self.recipe.data.store_top_k, published=self.recipe.published
        )
        with patch("efface.data.fluency.end_tokens", lambda *_: NO_END):
            return sample_fluency(self.loaded, self.store, self.concept, self.forget, how)

    # one training step, targets and fluency texts at hand
    def stand_ins(self) -> list[Text]:
        """Texts as long as fluency texts are (their content does not change the time)."""
        tokens, length = range(100, min(self.size, 10_000)), self.fluency.tokens
        return [Text(prompt + random.Random(0).choices(tokens, k=length), len(prompt)) for prompt in self.prompts]

    def straightforward_training_step(self) -> dict[str, Any]:
        corpora = {"erase": self.forget, "retain": self.retain, "fluency": self.stand_ins()}
        personas = {i: pairs[0] for i, pairs in enumerate(self.drawn)}
        steps = lambda: straightforward.train(self.student, corpora, personas, self.recipe, 1)  # noqa: E731
        return self.timed(steps, self.texts_a_step())

    def texts_a_step(self) -> int:
        return self.recipe.train.batch_size * self.recipe.train.accumulation * (1 + sum(self.recipe.per_item.values()))

    def efface_training_step(self) -> dict[str, Any]:
        erase, retain = self.targets()
        corpora = {"erase": erase, "retain": retain, "fluency": [next_token_example(text) for text in self.stand_ins()]}
        settings, method = self.recipe.train, ELM(self.recipe)
        items = Schedule(corpora, settings.batch_size * settings.accumulation, 0, self.recipe.per_item)
        parts = [[items[i + j] for j in range(settings.batch_size)] for i in range(0, len(items), settings.batch_size)]
        device = bare(self.student).device
        batches = [send_to_device(Collator(self.pad)(part), device) for part in parts]
        flops = sum(self.flops(batch) for batch in batches)
        weights = [parameter for parameter in self.student.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=settings.lr)

        def work() -> None:
            for batch in batches:
                with self.precision():
                    loss = method.loss(self.student, batch).total()
                loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            give_back()

        with ready(self.student, self.bf16):
            result = self.timed(work, self.texts_a_step())
        return {**result, "tflops": [flops / seconds / 1e12 for seconds in result["seconds"]]}

    @property
    def bf16(self) -> bool:
        return self.task["dtype"] == "auto" and has_bfloat16()

    def precision(self) -> torch.autocast:
        return torch.autocast(bare(self.student).device.type, torch.bfloat16, enabled=self.bf16)

    def flops(self, batch: dict[str, Any]) -> float:
        """Of the matrix products that are needed: no padding, and no gradient of frozen weights."""
        tokens = int(batch["attention_mask"].sum())
        positions = sum(len(batch[term]["rows"]) for term in ("erase", "retain", "fluency") if term in batch)
        head: int = bare(self.student).get_output_embeddings().weight.numel()
        return self.layer_flops(tokens) + 4 * positions * head

    def layer_flops(self, tokens: int) -> int:
        """Forward through all layers, backward down to the lowest adapted one, and the gradient of the adapter."""
        layers = list(decoder_layers(self.student)[1])
        lowest = min(parse_layers(self.recipe.lora.layers, len(layers)))
        forward, backward = (
            sum(p.numel() for layer in part for p in layer.parameters() if p.ndim > 1) for part in (layers, layers[lowest:])
        )
        return 2 * tokens * (forward + backward + self.adapter_weights())

    def adapter_weights(self) -> int:
        return sum(p.numel() for p in self.student.parameters() if p.requires_grad)

    def efface_limit(self) -> dict[str, Any]:
        """Forward and backward of the same model and adapter on rows without padding, with no output layer and no loss."""
        rows = [Text([7] * 128, 1) for _ in range(8)]

        def work() -> None:
            with self.precision():
                states = text_states(self.student, rows, self.pad)
            states.backward(torch.ones_like(states))  # type: ignore[no-untyped-call]

        self.student.train()
        with without_padding(self.student), disable_input_dtype_casting(self.student, active=self.bf16):
            result = self.timed(work, len(rows))
        tokens = 8 * 128
        flops = self.layer_flops(tokens)
        return {**result, "tflops": [flops / seconds / 1e12 for seconds in result["seconds"]]}

    # everything from nothing
    def straightforward_whole_job(self) -> dict[str, Any]:
        corpora = {"erase": self.forget, "retain": self.retain}
        personas = [pairs[0] for pairs in self.drawn]
        arguments = (self.prompts, personas, NO_END, self.recipe, self.task["steps"])
        texts = self.task["steps"] * self.texts_a_step()
        return self.timed(lambda: straightforward.job(self.student, corpora, *arguments), texts, warm=False)

    def efface_whole_job(self) -> dict[str, Any]:
        recipe = self.recipe.model_copy(update={"train": self.recipe.train.model_copy(update={"steps": self.task["steps"]})})

        def work() -> None:
            erase, retain = self.targets()
            corpora = {"erase": erase, "retain": retain, "fluency": self.sampled()}
            with tempfile.TemporaryDirectory() as folder:
                train(self.student, self.tokenizer, ELM(recipe), corpora, recipe, Path(folder))

        texts = self.task["steps"] * self.texts_a_step()
        first = self.timed(work, texts, warm=False)
        self.student._is_accelerate_prepared = False  # else accelerate takes the second training for one it has set up
        return {**first, "again": self.timed(work, texts, warm=False)["seconds"]}


def with_vocabulary(loaded: Loaded, size: int) -> Loaded:
    """A random model of six layers with a vocabulary of ``size``, in the place of the loaded one."""
    settings = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 9}
    config = LlamaConfig(vocab_size=size, num_key_value_heads=3, tie_word_embeddings=True, **settings)
    model = LlamaForCausalLM(config).to(loaded.model.dtype).to(loaded.model.device).eval()
    return Loaded(model, loaded.tokenizer, "", "")


def peak_mib(*, reset: bool = False) -> float:
    """Largest memory of this process since the last reset (Linux)."""
    if reset:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    with ExitStack() as quiet:
        quiet.callback(sys.stdout.flush)
        print(json.dumps(Measurement(json.loads(sys.argv[1])).run()))
