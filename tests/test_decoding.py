from pathlib import Path

import pytest
import torch

from efface.concept.pack import Concept
from efface.data.sample import Tilted, sample, sample_erased
from efface.decoding import ErasedLogits, persona_ids
from efface.lm.load import Loaded, load
from efface.targets import SparseTarget, erased_logprobs
from tests.conftest import ARCHITECTURES

PERSONAS = ([20, 21, 22, 23], [30, 31])


def next_logits(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1]


def by_hand(model: torch.nn.Module, prompt: list[int], steps: int, eta: float, seen: int = 0) -> list[int]:
    """Greedy guided decoding with three full forward passes a token and no cache. seen: prompt tokens hidden from personas."""
    ids = list(prompt)
    for _ in range(steps):
        expert, novice = (next_logits(model, persona + ids[seen:]) for persona in PERSONAS)
        ids.append(int(erased_logprobs(next_logits(model, ids), expert, novice, eta=eta).argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_cached_streams_decode_as_full_passes_do(architecture: str, model_folders: dict[str, Path]) -> None:
    loaded = load(str(model_folders[architecture]), dtype="float32")
    loaded.model.generation_config.eos_token_id = None
    loaded.tokenizer.eos_token = None
    loaded.tokenizer.pad_token = "<bos>"
    prompts = [[5, 6, 7, 8, 9], [40, 41]]
    tilt = ErasedLogits(loaded.model, [PERSONAS], pad_token_id=0, eta=2.0)
    got = sample(loaded.model, loaded.tokenizer, prompts, [tilt], max_new_tokens=6, do_sample=False)
    assert got == [by_hand(loaded.model, prompt, 6, 2.0) for prompt in prompts]
    assert got != sample(loaded.model, loaded.tokenizer, prompts, max_new_tokens=6, do_sample=False)


def test_personas_can_be_kept_from_the_prompt(llama: Loaded) -> None:
    tilt = ErasedLogits(llama.model, [PERSONAS], pad_token_id=1, eta=2.0, skip=5)
    got = sample(llama.model, llama.tokenizer, [[5, 6, 7, 8, 9]], [tilt], max_new_tokens=4, do_sample=False)
    assert got == [by_hand(llama.model, [5, 6, 7, 8, 9], 4, 2.0, seen=5)]


def test_beam_search_reads_reordered_beams_again(llama: Loaded) -> None:
    ids = torch.tensor([[5, 6, 7]])
    fresh = ErasedLogits(llama.model, [PERSONAS], pad_token_id=1, eta=2.0)
    kept = ErasedLogits(llama.model, [PERSONAS], pad_token_id=1, eta=2.0)
    for _ in range(3):
        scores = torch.stack([next_logits(llama.model, row) for row in ids.tolist()])
        torch.testing.assert_close(kept(ids, scores), ErasedLogits(llama.model, [PERSONAS], pad_token_id=1, eta=2.0)(ids, scores))
        ids = torch.cat([ids.flip(0), torch.tensor([[9 + len(ids)]] * len(ids))], dim=1)
    out = llama.model.generate(
        input_ids=torch.tensor([[5, 6, 7]]), num_beams=3, max_new_tokens=5, do_sample=False, logits_processor=[fresh]
    )
    assert out.shape[1] > 3


def test_works_as_a_plain_transformers_processor(llama: Loaded, zorn: Concept) -> None:
    tilt = ErasedLogits.for_concept(llama.model, llama.tokenizer, zorn, eta=0.0)
    ids = torch.tensor([[5, 6, 7]])
    plain = llama.model.generate(input_ids=ids, max_new_tokens=5, do_sample=False)
    assert torch.equal(llama.model.generate(input_ids=ids, max_new_tokens=5, do_sample=False, logits_processor=[tilt]), plain)


def test_personas_are_seeded_and_name_the_concept(llama: Loaded, zorn: Concept) -> None:
    import random

    one, same, other = (persona_ids(zorn, llama.tokenizer, random.Random(seed)) for seed in (1, 1, 2))
    assert one == same != other
    for ids in one:
        assert "the dragon of Zorn" in llama.tokenizer.decode(ids)


def test_rows_that_end_leave_the_batch_and_take_their_distributions_along(llama: Loaded) -> None:
    prompts, draws = [[7, 8, 9 + i] for i in range(6)], torch.rand(6, 12, generator=torch.Generator().manual_seed(0))

    def sampled(rows: list[int], ends: set[int]) -> tuple[list[list[int]], list[SparseTarget]]:
        chosen = [prompts[i] for i in rows]
        how = Tilted(0.5, pad=1, ends=ends, min_p=0.02, temperature=2.0, k=4)
        return sample_erased(llama.model, chosen, [PERSONAS] * len(rows), draws[rows], how)

    whole, _ = sampled(list(range(6)), set())
    ends = {new[2 * i] for i, new in enumerate(whole[:5])}  # rows end at different steps
    tokens, erased = sampled(list(range(6)), ends)
    assert len({len(new) for new in tokens}) > 2
    for i, (new, target) in enumerate(zip(tokens, erased, strict=True)):
        assert new == sampled([i], ends)[0][0]
        assert len(target) == len(new)
        for t in range(len(new)):
            ids = prompts[i] + new[:t]
            expert, novice = (next_logits(llama.model, persona + ids) for persona in PERSONAS)
            expected = erased_logprobs(next_logits(llama.model, ids), expert, novice, eta=0.5, min_p=0.02).exp()
            torch.testing.assert_close(target.logprobs[t].exp(), expected[target.ids[t].long()], atol=1e-4, rtol=1e-3)
            assert expected[new[t]] > 0


def test_a_text_that_is_to_end_gets_its_end_and_leaves_the_others_alone(llama: Loaded) -> None:
    prompts, draws, end = [[7, 8, 9], [7, 8, 10]], torch.rand(2, 6, generator=torch.Generator().manual_seed(0)), 3
    how = Tilted(0.5, pad=1, ends={end}, temperature=2.0, k=4, no_repeat=4)
    whole, erased = sample_erased(llama.model, prompts, [PERSONAS] * 2, draws, how)
    assert end not in whole[0] + whole[1]

    def over(row: int, new: list[int]) -> int | None:
        return end if row == 0 and len(new) == 2 else None

    tokens, cut = sample_erased(llama.model, prompts, [PERSONAS] * 2, draws, how, over)
    assert tokens == [[*whole[0][:2], end], whole[1]]
    assert len(cut[0]) == 3
    assert torch.equal(cut[0].logprobs[:2], erased[0].logprobs[:2])
    assert cut[0].ids[2, 0] == end
    assert cut[0].logprobs[2].exp().tolist() == [1, 0, 0, 0]
    assert cut[0].tail[2] == 0
