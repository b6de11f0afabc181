"""A finished run: its adapter loads anywhere, on its own weights only, and its files are plain."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from efface.errors import RunError
from efface.files import write_json
from efface.lm.layers import teacher
from efface.lm.load import resolve_dtype
from efface.runs import inputs
from efface.runs.inputs import load_model
from efface.runs.pipeline import erase
from efface.runs.run import Run


def test_the_adapter_works_from_plain_transformers_and_peft(run: Run, model_folders: dict[str, Path]) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model_folders["llama"], dtype=torch.float32)
    plain = PeftModel.from_pretrained(base, run.folder / "adapter").eval()
    ours = run.load().model
    ids = torch.tensor([[5, 6, 7, 8]])
    torch.testing.assert_close(plain(ids).logits, ours(ids).logits)
    with teacher(ours) as before:
        assert (before(ids).logits - plain(ids).logits).abs().max() > 1e-4


def test_weights_that_are_not_the_runs_are_refused(job: dict[str, Any], tmp_path: Path) -> None:
    """And code that comes with a model is not run because a run folder says so."""
    model = shutil.copytree(job["model"], tmp_path / "model")
    run = erase(**{**job, "model": str(model), "dtype": "auto"})
    record = json.loads((run.folder / "run.json").read_text())
    record["recipe"]["trust_remote_code"] = True
    write_json(run.folder / "run.json", record)
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        load = inputs.load
        patch.setattr(
            inputs, "load", lambda *args, **options: seen.append(options["trust_remote_code"]) or load(*args, **options)
        )
        loaded = run.load()
        run.load(trust_remote_code=True)
        patch.setattr(inputs, "load", lambda *args, **options: load(*args, **{**options, "dtype": other(options["dtype"])}))
        there, hashes = run.load_hashed()  # as on a machine where auto means another precision
    assert seen == [False, True]
    assert there.model.dtype != loaded.model.dtype
    assert hashes["model"] != run.record.hashes["model"]
    other_model = load_model(run.record.recipe)
    other_model.model.lm_head.weight.data += 1.0
    other_model.model.save_pretrained(model)
    with pytest.raises(RunError, match=r"the weights of .* are not those that the run was made from"):
        run.load()
    shutil.copytree(job["model"], model, dirs_exist_ok=True)
    file = run.folder / "adapter" / "adapter_model.safetensors"
    save_file({name: torch.zeros_like(tensor) for name, tensor in load_file(file).items()}, file)
    with pytest.raises(RunError, match="its adapter is not the one whose hash is in run.json"):
        run.load()


def other(dtype: str) -> str:
    """The precision that ``auto`` does not mean here."""
    here = "bfloat16" if resolve_dtype("auto") == torch.bfloat16 else "float32"
    return {"auto": {"bfloat16": "float32", "float32": "bfloat16"}[here]}.get(dtype, dtype)


def test_what_a_model_wrote_is_escaped(run: Run) -> None:
    from efface.auditing.scores import Answer
    from efface.report.page import write_report

    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    erased = run.audit.erased.model_copy(update={"answers": [Answer(prompt=evil, text=evil)]})
    base = run.audit.base.model_copy(update={"answers": [Answer(prompt=evil, text="fine")]})
    audit = run.audit.model_copy(update={"base": base, "erased": erased})
    write_report(run.folder, audit, run.record)
    page = (run.folder / "report.html").read_text()
    assert evil not in page
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2
    write_report(run.folder, run.audit, run.record)


def test_results_are_plain_json(run: Run) -> None:
    assert json.loads((run.folder / "audit.json").read_text())["split"] == "test"
    assert json.loads((run.folder / "run.json").read_text())["recipe"]["train"]["steps"] == 4
