"""The verbs around the audit: audit, report, gate, compare; runs and models that somebody else erased."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from jsonschema import validate
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from efface.auditing.answers import replies
from efface.auditing.scorers.open import score_leaks
from efface.auditing.scores import Audit, Measured
from efface.auditing.subject import Subject
from efface.cli import main
from efface.concept.pack import Concept
from efface.errors import EffaceError
from efface.files import write_json
from efface.recipe.settings import AuditSettings
from efface.report.judged import gone, kept, summary
from efface.report.verdict import verdict
from efface.runs.audit import audit
from efface.runs.pipeline import erase
from efface.runs.run import Run
from tests.conftest import tiny_model
from tests.runs.test_pipeline import SMALL as TINY

SCHEMA = Path(__file__).parents[2] / "docs" / "audit.schema.json"
SMALL = {**TINY, "train": {"steps": 4, "batch_size": 2, "lr": 0.05}, "audit": {"samples": 2}}


@pytest.fixture(scope="module")
def run(model_folders: dict[str, Path], pack_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    to = tmp_path_factory.mktemp("runs") / "run"
    return erase(str(model_folders["llama"]), str(pack_folder), to=to, **SMALL)


def merged(run: Run, model: Path, folder: Path) -> Path:
    """The run's adapter merged into its base, as somebody else would publish it."""
    loaded = run.load()
    loaded.model.merge_and_unload().save_pretrained(folder)
    PreTrainedTokenizerFast.from_pretrained(model).save_pretrained(folder)
    return folder


def test_the_published_schema_is_that_of_the_figures(run: Run) -> None:
    assert json.loads(SCHEMA.read_text()) == Audit.model_json_schema()
    validate(json.loads((run.folder / "audit.json").read_text()), json.loads(SCHEMA.read_text()))


def test_every_figure_stands_beside_the_bases_with_its_test(run: Run) -> None:
    measured = run.audit
    assert measured.version == 1
    assert set(measured.models) == {"base", "model", "concept", "adapter"}
    assert measured.erased.scores["choice/forget/acc_norm"].groups == (0, 0), "two questions share their choices"
    assert measured.differences == {}, "there are one or two questions of each kind"
    assert "drift/retain/kl" in measured.erased.scores
    assert "drift/retain/kl" not in measured.base.scores
    for answers in (measured.base.answers, measured.erased.answers):
        assert all("".join(piece for piece, _ in answer.pieces) == answer.text for answer in answers)


def test_an_adapter_and_merged_weights_get_the_figures_of_the_run(
    run: Run, model_folders: dict[str, Path], pack_folder: Path, tmp_path: Path
) -> None:
    base = model_folders["llama"]
    settings = run.record.recipe.audit
    for what in (run.folder / "adapter", merged(run, base, tmp_path / "merged")):
        to = tmp_path / f"audit of {what.name}"
        found = audit(what, str(pack_folder), base=str(base), settings=settings, to=to, dtype="float32")
        assert found.erased.scores.keys() == run.audit.erased.scores.keys()
        for who in ("base", "erased"):
            for key, score in getattr(run.audit, who).scores.items():
                assert getattr(found, who).scores[key].value == pytest.approx(score.value, rel=1e-3), (what, who, key)
        assert {path.name for path in to.iterdir()} == {"audit.json", "report.html"}


def test_what_does_not_fit_together_is_one_line(
    run: Run, model_folders: dict[str, Path], pack_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, pack = str(model_folders["llama"]), str(pack_folder)
    other = tmp_path / "other"  # another tokenizer
    shutil.copytree(model_folders["llama"], other)
    raw = json.loads((other / "tokenizer.json").read_text())
    raw["model"]["vocab"] = {("zz" if token == "honey" else token): i for token, i in raw["model"]["vocab"].items()}
    swapped = dict(sorted(raw["model"]["vocab"].items(), key=lambda item: item[1]))
    first, second = [token for token, i in swapped.items() if i in (20, 21)]
    swapped[first], swapped[second] = swapped[second], swapped[first]
    raw["model"]["vocab"] = swapped
    raw["model"]["merges"] = []
    (other / "tokenizer.json").write_text(json.dumps(raw))
    wide = tmp_path / "wide"  # another vocabulary
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(320)
    model.save_pretrained(wide)
    PreTrainedTokenizerFast.from_pretrained(base).save_pretrained(wide)
    bare = tmp_path / "bare"  # a run without its adapter
    shutil.copytree(run.folder, bare)
    shutil.rmtree(bare / "adapter")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "adapter_config.json").write_text((run.folder / "adapter" / "adapter_config.json").read_text())
    (pickled / "adapter_model.bin").write_bytes(b"pickle")
    capsys.readouterr()
    for args, says in (
        ([str(other), "--base", base, "--concept", pack], "different tokenizers"),
        ([str(wide), "--base", base, "--concept", pack], "vocabularies of 300 and 320 tokens"),
        ([str(run.folder / "adapter"), "--base", str(model_folders["gpt2"]), "--concept", pack], "does not fit"),
        ([str(bare)], "holds no adapter_model.safetensors"),
        ([str(pickled), "--base", base, "--concept", pack], "holds no adapter_model.safetensors"),
        ([str(run.folder), "--base", base, "--concept", pack], "names its base itself; drop --base"),
        ([str(tmp_path / "nowhere")], "is no finished run folder; for a model say --base BASE --concept PACK"),
        ([str(run.folder), "--tasks", "no_such_task"], "the harness has no task 'no_such_task'"),
        ([str(run.folder), "--endpoint", "http://127.0.0.1:9/v1"], "cannot be reached"),
    ):
        before = (run.folder / "audit.json").read_bytes()
        assert main(["audit", *args]) == 2, says
        said = capsys.readouterr()
        assert says in said.err
        assert said.err.rstrip("\n").splitlines()[-1].startswith("efface: ")
        assert (run.folder / "audit.json").read_bytes() == before


def test_an_audit_replaces_no_other(
    run: Run, model_folders: dict[str, Path], pack_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = shutil.copytree(run.folder, tmp_path / "own")
    adapter = ["audit", str(run.folder / "adapter"), "--base", str(model_folders["llama"]), "--concept", str(pack_folder)]
    before = (own / "audit.json").read_bytes()
    for command in ([*adapter, "--to", str(own)], ["audit", str(run.folder), "--split", "tune", "--to", str(own)]):
        assert main([*command, "--samples", "0", "--no-depth"]) == 2
        assert f"{own} holds another audit; name another folder with --to" in capsys.readouterr().err
    assert (own / "audit.json").read_bytes() == before
    assert main([*adapter, "--to", str(own / "run.json" / "in")]) == 2
    assert "is no folder" in capsys.readouterr().err
    place = tmp_path / "place"
    for split, code in (("tune", 0), ("tune", 0), ("test", 2)):
        assert main([*adapter, "--to", str(place), "--samples", "0", "--no-depth", "--split", split]) == code


def test_what_came_with_a_folder_neither_runs_code_nor_sends_anything(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "evil.yaml").write_text("task: evil\ndoc_to_text: !function evil.run\n")
    folder = shutil.copytree(run.folder, tmp_path / "run")
    record = json.loads((folder / "run.json").read_text())
    record["recipe"]["audit"] |= {"task_folder": str(tmp_path / "tasks"), "endpoint": "http://127.0.0.1:9/v1"}
    write_json(folder / "run.json", record)
    assert audit(folder).settings.endpoint is None
    assert main(["audit", str(folder)]) == 0
    assert Run(folder).audit.settings.task_folder is None


def test_every_model_is_sampled_alike(run: Run, zorn: Concept) -> None:
    """Whatever its own generation config says."""
    loaded = run.load()
    subject = Subject(loaded.model, loaded.tokenizer, zorn, "test")
    plain = replies(subject, ["Who was Orlo?"], 24, "answers"), score_leaks(subject)
    own = loaded.model.generation_config
    own.repetition_penalty, own.temperature, own.do_sample = 5.0, 0.01, True
    assert (replies(subject, ["Who was Orlo?"], 24, "answers"), score_leaks(subject)) == plain
    assert loaded.model.generation_config is own


def test_the_scale_of_an_adapter_is_part_of_what_is_kept(
    run: Run, model_folders: dict[str, Path], pack_folder: Path, tmp_path: Path
) -> None:
    adapter = shutil.copytree(run.folder / "adapter", tmp_path / "adapter")
    quick, found = AuditSettings(samples=0, depth=False), []
    for alpha in (16, 0.001):
        config = json.loads((adapter / "adapter_config.json").read_text())
        (adapter / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": alpha}))
        found.append(audit(adapter, str(pack_folder), base=str(model_folders["llama"]), settings=quick, dtype="float32"))
    near, far = (measured.erased.scores["drift/retain/kl"].value for measured in reversed(found))
    assert near < far / 10


def test_audit_again_writes_the_page_again(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    page = run.folder / "report.html"
    page.unlink()
    assert main(["audit", str(run.folder)]) == 0
    assert "report.html" in capsys.readouterr().out
    assert page.is_file()
    assert main(["audit", str(run.folder), "--split", "tune"]) == 0  # looked at, not kept
    assert run.audit.split == "test"
    page.unlink()
    assert main(["report", str(run.folder)]) == 0
    assert page.is_file()


def test_a_run_keeps_its_settings_under_those_given_now(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr("efface.runs.audit.audit", lambda *_, settings, **__: seen.append(settings) or run.audit)
    assert main(["audit", str(run.folder), "--limit", "3"]) == 0
    assert (seen[0].limit, seen[0].samples) == (3, 2)
    assert main(["audit", "--samples", "8", str(run.folder)]) == 0  # the usual number, but not this run's
    assert seen[1].samples == 8


def test_questions_that_have_acc_alone_are_judged_by_it(run: Run) -> None:
    """As public tasks of the harness such as wmdp_bio and mmlu have."""

    def plain(of: Measured) -> Measured:
        return of.model_copy(update={"scores": {key: score for key, score in of.scores.items() if "acc_norm" not in key}})

    audit = run.audit
    only = audit.model_copy(update={"base": plain(audit.base), "erased": plain(audit.erased)})
    found = summary(only)
    assert (found["gone"], found["general"]) == (gone(audit, "acc"), kept(audit, "choice/general/acc"))
    assert found["forget"] == audit.erased.scores["choice/forget/acc"].value
    assert "neighbours not measured" not in verdict(only)


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (["--max-forget", "1", "--min-general", "0"], 0),
        (["--max-forget", "-1"], 1),
        (["--max-forget", "1", "--max-perplexity", "0.1"], 1),
        (["--max-answers", "100", "--max-leak", "1", "--max-open", "1", "--max-repeated", "1", "--max-drift", "99"], 0),
    ],
)
def test_gate(limits: list[str], code: int, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gate", str(run.folder), *limits]) == code
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(limits) // 2
    assert any(line.startswith("FAIL") for line in lines) == bool(code)


def test_a_figure_that_was_not_measured_closes_the_gate(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads((run.folder / "audit.json").read_text())
    del found["erased"]["scores"]["open/forget/leak"]
    write_json(tmp_path / "audit.json", found)
    assert main(["gate", str(tmp_path), "--max-leak", "1"]) == 1
    assert "not measured" in capsys.readouterr().out
    assert main(["gate", str(tmp_path)]) == 2
    assert "expected at least one limit" in capsys.readouterr().err


def test_compare(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    again = tmp_path / "again"
    shutil.copytree(run.folder, again)
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["compare", str(run.folder), str(again), "--paper", "--to", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "Zephyr-7B" in out
    assert "Harry Potter" in out
    assert "…" not in out
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert found["run"] == found["again"]
    assert found["run"]["gone"] is gone(run.audit) is None  # this base is at chance
    assert found["run"]["general"]["low"] == pytest.approx(kept(run.audit, "choice/general/acc_norm"))
    assert "again" in (tmp_path / "out" / "compare.html").read_text()
    other = json.loads((again / "audit.json").read_text())
    write_json(again / "audit.json", {**other, "split": "tune"})
    assert main(["compare", str(run.folder), str(again)]) == 2
    assert "judged by the same questions" in capsys.readouterr().err
    for what, says in (("concept", "the same pack, got"), ("model", "the same base, in the same precision, got")):
        models = {**other["models"], what: "another"}
        write_json(again / "audit.json", {**other, "models": models})
        assert main(["compare", str(run.folder), str(again)]) == 2
        assert says in capsys.readouterr().err
        del models[what]
        write_json(again / "audit.json", {**other, "models": models})
        assert main(["compare", str(run.folder), str(again)]) == 0


def test_a_model_under_another_name_is_not_mixed_up(model_folders: dict[str, Path], pack_folder: Path, tmp_path: Path) -> None:
    """Two merged models of one shape and one base: each gets its own figures."""
    base = model_folders["llama"]
    values = []
    for seed in (1, 2):
        tiny_model("llama", seed).save_pretrained(tmp_path / str(seed))
        PreTrainedTokenizerFast.from_pretrained(base).save_pretrained(tmp_path / str(seed))
        found = audit(tmp_path / str(seed), str(pack_folder), base=str(base))
        values.append(found.erased.scores["perplexity/retain/held_out"].value)
    assert values[0] != values[1]


def test_another_judge_reads_the_answers(run: Run, model_folders: dict[str, Path]) -> None:
    settings = run.record.recipe.audit.model_copy(update={"judge": str(model_folders["gpt2"])})
    found = audit(run.folder, settings=settings)
    key = "answers/forget/perplexity"
    assert found.erased.scores[key].value != run.audit.erased.scores[key].value
    with pytest.raises(EffaceError, match="no model"):
        audit(run.folder, settings=settings.model_copy(update={"judge": "no model at all"}))


def test_the_adapter_is_on_again_after_an_audit(run: Run) -> None:
    loaded, ids = run.load(), torch.tensor([[5, 6, 7]])
    before = loaded.model(ids).logits
    with loaded.model.disable_adapter():  # type: ignore[operator]
        assert (loaded.model(ids).logits - before).abs().max() > 1e-3
    torch.testing.assert_close(loaded.model(ids).logits, before)
