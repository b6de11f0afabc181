import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from efface import cli
from efface.cli import VERBS, main
from efface.cli.parse import fold
from efface.cli.recipe import parse_recipe
from efface.cli.tune import TuneArguments
from efface.errors import EffaceError, InputError, TrainingError
from efface.recipe.resolve import resolve
from efface.runs.run import Run
from efface.search.tune import Study
from tests.conftest import write_pack
from tests.runs.conftest import run as run

TINY = [
    *("--data.max-tokens", "24", "--fluency.texts", "2", "--fluency.tokens", "8", "--lora.layers", "1-2", "--dtype", "float32"),
    *("--train.steps", "2", "--train.batch-size", "2"),
]
NOTHING = ["--erase.weight", "0", "--retain.weight", "0", "--fluency.weight", "0"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["eraze"], "no verb 'eraze'; there are: erase, prepare, audit"),
        (["erase"], "expected MODEL and CONCEPT, or a recipe.yaml"),
        (["erase", "m", "atlantis"], "no concept pack 'atlantis'; built in: ancient-egypt"),
        (["erase", "./no where", "ancient-egypt"], "no model './no where': expected a hub id, a folder, a .gguf file, or one of"),
        (["erase", "m", "ancient-egypt", "--train.lrr", "1"], "Unrecognized options: --train.lrr"),
        (["erase", "m", "ancient-egypt", "--erase.resist=1"], "recipe: erase.resist is no more, for it did not help; drop it"),
        (["erase", "m", "ancient-egypt", "--fluency.sees-prompt"], "recipe: fluency.sees_prompt is published.sees_prompt now"),
        (["erase", "m", "ancient-egypt", "--train.lr", "fast"], "Error parsing --train.lr: could not convert"),
        (["erase", "m", "ancient-egypt", "--train.lr", "-1"], "train.lr: Input should be greater than 0, got -1.0"),
        (["erase", "m", "ancient-egypt", "--preset", "best"], "best"),
        (["erase", "m", "ancient-egypt", *NOTHING], "at least one of erase.weight, retain.weight and fluency.weight must be"),
        (
            ["erase", "m", "ancient-egypt", "--erase.target", "stranger", "--erase.eta", "9"],
            "erase.eta does nothing with erase.target s",
        ),
        (["erase", "m", "ancient-egypt", "--erase.eta", "9"], "erase.eta does nothing with erase.target marginal; say erase"),
        (["erase", "m", "ancient-egypt", "--erase.marginal", "none"], "Error parsing --erase.marginal: could not convert"),
        (
            ["tune", "m", "ancient-egypt", "--erase.target", "stranger", "--vary", "erase.eta"],
            "eta does nothing with erase.target stranger; say erase.target tilted, or drop it",
        ),
        (["erase", "m", "ancient-egypt", "--train.clip", "inf"], "train.clip: Input should be a finite number, got inf"),
        (["erase", "m", "ancient-egypt", "--seed", "4294967296"], "seed: Input should be less than or equal to 4294967295"),
        (["erase", "m", "ancient-egypt", "--data.seed", "9" * 20], "data.seed: Input should be less than or equal to 42949"),
        (["erase", "m", "ancient-egypt", "--scorers", "a.py"], "--scorers, a.py; here it is --audit.scorers; see: efface erase"),
        (["erase", "m", "ancient-egypt", "--weight", "3"], "; here it is --erase.weight or --retain.weight or --fluency.weight;"),
        (["audit", "m", "--audit.relearn-lr=3"], "--audit.relearn-lr=3; here it is --relearn-lr; see: efface audit --help"),
        (["compare", "m", "--scorers", "a.py"], "--scorers, a.py; here it is --audit.scorers; see: efface compare --help"),
        (["gate", "m", "--audit.max_forget", "3"], "here it is --max-forget; see"),
        (["audit", "m", "--samples", "-1"], "samples: Input should be greater than or equal to 0, got -1"),
        (["compare", "m", "--audit.samples", "-1"], "--audit.samples: Input should be greater than or equal to 0, got -1"),
        (["gate", "run", "--max-forget", "nan"], "--max-forget: expected a number, got nan"),
        (
            ["gate", "--max-forget", "--", "--help"],
            "gate: Missing value for argument '--max-forget'. Expected 1 values.; see: eff",
        ),
        (
            ["gate", "run", "--max-forget", "--help"],
            "gate: Missing value for argument '--max-forget'. Expected 1 values.; see: e",
        ),
        (["concept", "show", "--", "-h"], "no concept pack '-h'"),
        (["generate", "nowhere", "--", "--help"], "'nowhere' is no finished run folder"),
        (["cache", "clear", "--keep-gb", "1e300"], "--keep-gb: expected a number of gigabytes, 0 or more, got 1e+300"),
        (["erase", "recipe.yaml"], "no recipe file recipe.yaml"),
        (["model", "fetch", "huge"], "no embedded model 'huge'; there are: smollm2-135m"),
        (["model", "path", "huge"], "'huge' is not in the cache"),
        (["concept", "show", "atlantis"], "no concept pack 'atlantis'"),
        (["generate", "one"], "expected RUN [RUN …] PROMPT or MODEL CONCEPT PROMPT"),
        (["generate", "nowhere", "Hello"], "'nowhere' is no finished run folder"),
        (["generate", "nowhere", "Hello", "--tempereture", "1"], "no option 'tempereture', neither here nor in transformers'"),
        (["generate", "--tempereture", "1", "nowhere", "Hello"], "no option 'tempereture'"),
        (["generate", "nowhere", "Hello", "--top-p"], "expected a value after --top-p"),
        (["generate", "nowhere", "Hello", "--eta", "3"], "--eta and --guide-min-p go with MODEL CONCEPT PROMPT"),
        (["generate", "m", "ancient-egypt", "Hello", "--guide-min-p", "5"], "expected a number from 0 up to 1, got 5.0"),
        (["generate", "m", "ancient-egypt", "Hello", "--eta", "nan"], "--eta: expected a number from 0 on, got nan"),
        (["generate", "m", "ancient-egypt", "Hello", "--eta", "-1"], "--eta: expected a number from 0 on, got -1.0"),
        (["generate", "nowhere", "Hello", "--seed", "9" * 20], "--seed: expected a number from 0 to 4294967295"),
        (["generate", "nowhere", "Hello", "--top-k", "2024-13-45"], "cannot read the value of top_k: '2024-13-45'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    args: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("efface: ")
    assert says in captured.err
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("args", [["erase", "m", "ancient-egypt"], ["audit", "m", "--base", "m", "--concept", "ancient-egypt"]])
@pytest.mark.parametrize("url", ["https://me:hush@judge/v1", "https://judge/v1?key=hush"])
def test_a_key_in_a_url_is_refused_and_not_repeated(args: list[str], url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*args, "--audit.endpoint" if args[0] == "erase" else "--endpoint", url]) == 2
    said = capsys.readouterr().err
    assert "endpoint: expected a URL without user, password and query; its key goes into $EFFACE_JUDGE_KEY" in said
    assert "hush" not in said


def test_an_error_is_one_line_without_colours_in_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert main(["erase", "m", "zorn", "--train.lr", "abc"]) == 2
    said = "efface: erase: Error parsing --train.lr: could not convert string to float: 'abc'; see: efface erase --help\n"
    assert capsys.readouterr().err == said
    red = "\x1b[31m╭─\x1b[0m Value error \x1b[31m─╮\x1b[0m\n\x1b[31m│\x1b[0m \x1b[91;1mNo\x1b[0m such thing \x1b[31m│\x1b[0m\n"
    assert fold(f"{red}\x1b[31m│ ---- │\x1b[0m\n│ For full helptext │\n") == "No such thing"


@pytest.mark.parametrize(
    ("error", "said"), [(TrainingError("the loss is nan"), "efface: the loss is nan\n"), (InputError("no"), "")]
)
def test_any_process_says_that_its_loss_is_not_finite(
    error: EffaceError, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "is_main", lambda: False)
    monkeypatch.setattr(cli, "import_module", lambda _: SimpleNamespace(erase=fail))
    assert main(["erase"]) == 2
    assert capsys.readouterr().err == said


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["concept", "tasks", "ancient-egypt", "--to", str(tmp_path / "file" / "tasks")]) == 2
    assert capsys.readouterr().err == f"efface: {tmp_path}/file/tasks: Not a directory\n"


@pytest.mark.parametrize("args", [["--help"], ["erase", "--help"], ["generate", "--help"], ["erase", "m", "no-such-pack"]])
def test_help_and_bad_arguments_do_without_torch(args: list[str]) -> None:
    code = (
        "import sys\nfrom efface.cli import main\n"
        f"try: main({args!r})\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in VERBS)
    assert main(["--version"]) == 0


@pytest.mark.parametrize("group", ["concept", "cache", "model"])
def test_help_of_a_group_and_of_its_verbs(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([group, "--help"]) == 0
    shown = capsys.readouterr().out
    assert [verb for verb in VERBS if f"  {verb} " in shown] == [verb for verb in VERBS if verb.startswith(f"{group} ")]
    for verb in (verb for verb in VERBS if verb.startswith(f"{group} ")):
        with pytest.raises(SystemExit) as stopped:
            main([*verb.split(), "--help"])
        assert stopped.value.code == 0
        first = {"show": "Show", "list": "List" if group == "concept" else "Print", "tasks": "Write", "check": "Read"}
        first |= {"clear": "Remove", "fetch": "Fetch", "path": "Print", "write": "Let", "new": "Write"}
        assert f"\n{first[verb.split()[1]]} " in capsys.readouterr().out


def test_help_is_printed_whatever_the_encoding() -> None:
    command, environment = [sys.executable, "-m", "efface", "--help"], {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: efface VERB ?" in done.stdout


@pytest.mark.parametrize("content", ["[]", '{"trials": []}', '{"trials": [{"number": 1, "settings": []}], "recipe": {}}'])
def test_a_damaged_search_is_one_line(content: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "tune.json").write_text(content)
    assert main(["erase", "m", "ancient-egypt", "--from-trial", "1", "--study", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"efface: {tmp_path}/tune.json is damaged; give the same 'efface tune' command again\n"


def test_concepts(capsys: pytest.CaptureFixture[str], tmp_path: Path, model_folders: dict[str, Path]) -> None:
    assert main(["concept", "list"]) == 0
    assert main(["concept", "show", "ancient-egypt"]) == 0
    assert main(["concept", "show", "wmdp-bio"]) == 0  # says what it is made of, reads none of it
    write_pack(tmp_path)
    questions = tmp_path / "questions.jsonl"
    questions.write_text(questions.read_text().replace('"topic": "it"', '"topic": "[/b]"'))
    assert main(["concept", "check", str(tmp_path), "--model", str(model_folders["llama"])]) == 0
    shown = capsys.readouterr().out
    assert "ancient-egypt" in shown
    assert "Tutankhamun" in shown
    assert "choice_only/forget/acc" in shown
    assert "neighbour/[/b]/acc" in shown
    assert "no errors" in shown
    assert "$EFFACE_WMDP_BIO this corpus is gated" in " ".join(shown.split())
    assert "forget tasks: wmdp_bio" in shown


def test_flags_override_the_recipe_file(
    tmp_path: Path, pack_folder: Path, model_folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {model_folders['llama']}\nconcept: {pack_folder}\npreset: paper\n"
        "lora: {rank: 2}\ntrain: {lr: 0.01, steps: 9}\n"
    )
    assert main(["erase", str(recipe), "--to", str(tmp_path / "run"), *TINY]) == 0
    used = Run(tmp_path / "run").record.recipe
    assert (used.preset, used.train.steps, used.train.lr, used.lora.rank, used.erase.eta) == ("paper", 2, 0.01, 2, 500)
    shown = capsys.readouterr().out
    assert "concept, acc_norm" in shown
    assert [line.split(":")[0] for line in shown.splitlines()[-4:]] == ["report", "chat", "play", "export"]
    assert f"\nchat:   efface chat {tmp_path / 'run'}\n" in shown
    assert main(["erase", str(recipe), "extra"]) == 2


def test_a_search_varies_the_tilt_of_the_tilted_target(tmp_path: Path) -> None:
    given, recipe = parse_recipe(TuneArguments, ["m", "ancient-egypt", "--erase.target", "tilted", "--vary", "erase.eta"], "tune")
    study = Study(tmp_path, recipe, given.vary)
    assert study.recipe.erase.target == "tilted"
    assert study.vary == ("erase.eta",)
    plain = resolve({"model": "m", "concept": "ancient-egypt"})
    with pytest.raises(InputError, match="eta does nothing with erase.target marginal"):
        Study(tmp_path, plain, ["erase.eta"])
    assert list(tmp_path.iterdir()) == []


def test_generate_answers_as_base_and_as_erased(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--max-new-tokens", "5", "--do-sample", "true", "--top-p=0.9"]
    assert main(["generate", str(run.folder), "Who was Orlo?", *options]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("base: ")
    assert "\nerased: " in shown
    for args, says in (
        (["Who was Orlo?", "--max-new-tokens", "many"], "generate: no answer with max_new_tokens many: "),
        (["Who was Orlo?", "--num-beams", "0"], "generate: no answer with num_beams 0: "),
        (["", "--raw"], "generate: expected a PROMPT that is not empty"),
    ):
        assert main(["generate", str(run.folder), *args]) == 2
        assert says in capsys.readouterr().err


def test_generate_with_guidance_only(
    pack_folder: Path, model_folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(model_folders["llama"])
    assert main(["generate", model, str(pack_folder), "Who was Orlo?", "--eta", "3", "--max-new-tokens", "5"]) == 0
    assert "guided, eta 3: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "error", [RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError(), RuntimeError("shapes differ")]
)
def test_out_of_memory_is_one_line_that_says_what_helps(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr("efface.cli.concept.list_packs", fail)
    if str(error) == "shapes differ":
        with pytest.raises(RuntimeError, match="shapes differ"):
            main(["concept", "list"])
    else:
        assert main(["concept", "list"]) == 2
        assert capsys.readouterr().err == f"efface: out of memory; what helps: {cli.ROOM}\n"
