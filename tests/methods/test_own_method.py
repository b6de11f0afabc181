"""What is wrong in a method file is one line that names the file; mended, the same command goes on."""

from pathlib import Path

import pytest

from efface.cli import main
from efface.recipe.own import is_file

HEAD = "from efface.methods.method import Method\n\nclass Mine(Method):\n"
GOOD = "    def erase(self, seen):\n        return -seen.mean(seen.cross_entropy())\n"
LITTLE = (
    "--data.forms 0 --data.kept 0 --data.neighbours 0 --data.max-tokens 16 --lora.rank 2 --train.steps 2 --train.batch-size 1"
)


@pytest.fixture
def command(model_folders: dict[str, Path], pack_folder: Path, tmp_path: Path) -> list[str]:
    named = [str(model_folders["llama"]), str(pack_folder), "--method", str(tmp_path / "mine.py")]
    return ["erase", *named, "--to", str(tmp_path / "run"), "--dtype", "float32", "--audit.samples", "0", *LITTLE.split()]


def fails(command: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The last line of standard error, which begins with the file's name."""
    (file,) = [Path(word) for word in command if is_file(word)]
    file.write_text(HEAD + text)
    capsys.readouterr()
    assert main(command) == 2
    *_, last = capsys.readouterr().err.strip().splitlines()
    assert last.startswith(f"efface: {file}: ")
    return last


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("    def earse(self, seen): ...", "expected Mine to have a method erase(self, seen), got earse"),
        ("    pass", "expected Mine to have a method erase(self, seen), got none"),
        ("    def erase(self): ...", "expected a function erase(self, seen), got erase(self)"),
        (
            "    def __init__(self, *args):\n        self.recipes\n" + GOOD,
            "line 5: AttributeError: 'Mine' object has no attribute 'recipes'",
        ),
        ("    recipe_defaults = {'erase': {'wieght': 1}}\n" + GOOD, "recipe_defaults: erase.wieght: no such setting"),
        ("    recipe_defaults = 3\n" + GOOD, "recipe_defaults: expected a mapping, got 3"),
    ],
)
def test_what_can_be_seen_in_the_class_is_told_before_any_work(
    text: str, says: str, command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("efface.runs.pipeline.load_model", lambda *_: pytest.fail("the model was loaded"))
    assert says in fails(command, text, capsys)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "    def erase(self, seen):\n        return seen.staets.sum()",
            "line 5: AttributeError: 'Seen' object has no attribute",
        ),
        ("    def erase(self, seen):\n        return seen.head(3).sum()", "mine.py: line 5: "),
        (
            "    def erase(self, seen):\n        return seen.cross_entropy()",
            "erase: expected a scalar tensor with a gradient, got one of shape [",
        ),
        ("    def erase(self, seen):\n        return seen.states.detach().sum()", "with a gradient, got one without gradient"),
        ("    def erase(self, seen):\n        return 1.0", "erase: expected a scalar tensor with a gradient, got float"),
        ("    def layers(self, model):\n        return [7]\n" + GOOD, "layers: expected numbers from 0 to 2, got [7]"),
        ("    def constrain(self, model, batches):\n        return lambda: 1 / 0\n" + GOOD, "line 5: ZeroDivisionError"),
        (
            "    def examples(self, *_):\n        return ['text']\n" + GOOD,
            "examples: expected a sequence of efface.data.batches.E",
        ),
        ("    def examples(self, *_):\n        return None\n" + GOOD, "examples: expected a sequence of efface.data.batches.Exa"),
        ("    def examples(self, *_):\n        raise SystemExit\n" + GOOD, "line 5: SystemExit"),
        (
            "    def examples(self, *of):\n        return [*super().examples(*of)]",
            "Mine has examples and no method erase(self, seen",
        ),
    ],
)
def test_what_fails_at_work_is_one_line_and_leaves_no_folder(
    text: str, says: str, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in fails(command, text, capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"], "mended, the same command begins anew"


def test_mended_the_same_command_goes_on(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EFFACE_CACHE", str(tmp_path / "cache"))
    fails(command, "    def erase(self, seen):\n        return seen.cross_entropy()", capsys)
    (tmp_path / "mine.py").write_text(HEAD + GOOD)
    monkeypatch.setattr("efface.data.store.write", lambda *_: pytest.fail("what was prepared is in the store"))
    assert main(command) == 0


def test_a_file_that_changed_while_it_trained_says_how_to_go_on(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = GOOD.replace("return", "assert seen.progress < 0.5, 'late'\n        return")
    command = [*command, "--train.checkpoint-steps", "1"]
    assert "line 5: AssertionError: late" in fails(command, late, capsys)
    (tmp_path / "mine.py").write_text(HEAD + GOOD)
    assert main(command) == 2
    assert "or drop it with --overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
