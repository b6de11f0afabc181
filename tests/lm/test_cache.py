from pathlib import Path

import pytest
import torch
from transformers import DynamicCache

from efface.errors import ModelError
from efface.lm.cache import ROOM, SharedPrefixes, require_cache, roomy_cache
from efface.lm.load import load
from tests.conftest import ARCHITECTURES

PREFIXES = [[20, 21, 22, 23], [30, 31], list(range(100, 170))]  # the last is longer than the sliding windows
TEXT = [5, 6, 7, 8]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_behind_a_shared_prefix_a_text_is_read_as_behind_its_own(architecture: str, model_folders: dict[str, Path]) -> None:
    model = load(str(model_folders[architecture]), dtype="float32").model
    shared = SharedPrefixes(model, PREFIXES, pad=1)
    assert shared.usable
    before = [PREFIXES[2], PREFIXES[0], PREFIXES[1], PREFIXES[0]]
    ids = torch.tensor([[prefix[-1], *TEXT] for prefix in before])
    with torch.no_grad():
        together = model(input_ids=ids, **shared.before(before, torch.ones_like(ids))).logits
        for prefix, row in zip(before, together, strict=True):
            torch.testing.assert_close(
                row, model(torch.tensor([prefix + TEXT])).logits[0, len(prefix) - 1 :], atol=1e-4, rtol=1e-4
            )


def test_a_model_that_cannot_share_says_so(model_folders: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    model = load(str(model_folders["llama"]), dtype="float32").model
    original = model.forward

    def deaf(*args: object, **options: object) -> object:  # ignores what was cached
        return original(*args, **{**options, "past_key_values": None, "attention_mask": None})

    model.forward = deaf
    assert not SharedPrefixes(model, PREFIXES, pad=1).usable
    assert "cannot share prefixes" in capsys.readouterr().err


def test_a_model_that_forgets_what_it_read_is_refused(model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(str(model_folders["llama"]), dtype="float32").model
    require_cache(model, [5, 6, 7])
    plain = model.forward
    monkeypatch.setattr(model, "forward", lambda past_key_values=None, **inputs: plain(**inputs))  # as those do that have a state
    with pytest.raises(ModelError, match="LlamaForCausalLM cannot go on with a text"):
        require_cache(model, [5, 6, 7])


def test_a_roomy_cache_holds_what_a_plain_one_holds(model_folders: dict[str, Path]) -> None:
    roomy, plain = roomy_cache(load(str(model_folders["llama"])).model), DynamicCache()
    torch.manual_seed(0)
    rows = torch.tensor([0, 2])
    for step, length in enumerate((5, 1, 1, ROOM, 1, 1)):
        states = torch.randn(2, 3, 2, length, 4)
        if step > 2:
            states = states[:, rows]
        got, expected = (cache.update(states[0], states[1], 0) for cache in (roomy, plain))
        assert torch.equal(got[0], expected[0])
        assert torch.equal(got[1], expected[1])
        if step == 2:
            roomy.layers[0].reorder_cache(rows)
            plain.layers[0].batch_select_indices(rows)
    assert roomy.layers[0].get_seq_length() == 9 + ROOM


def test_a_cache_with_room_for_all_that_comes_is_made_once(model_folders: dict[str, Path]) -> None:
    cache = roomy_cache(load(str(model_folders["llama"])).model, more=ROOM + 8)
    made = set()
    for length in (5, ROOM, 8):
        keys, _ = cache.update(torch.randn(1, 2, length, 4), torch.randn(1, 2, length, 4), 0)
        made.add(keys.data_ptr())
    assert len(made) == 1
    assert keys.shape[-2] == 5 + ROOM + 8
