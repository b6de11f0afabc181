"""Every key of a file stands in it once."""

from pathlib import Path

import pytest

from efface.cli import main
from efface.concept.find import builtin_packs
from efface.concept.pack import read_manifest
from efface.errors import InputError
from efface.recipe.recipe import read_recipe
from efface.recipe.yaml import load_yaml
from tests.conftest import write_pack


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("train: {lr: 1}\nseed: 0\ntrain:\n  steps: 3\n", "key 'train' stands 2 times, in lines 1 and 3; expected it once"),
        ("train:\n  lr: 1\n  steps: 3\n  lr: 2\n", "key 'lr' stands 2 times, in lines 2 and 4"),
        ("a: 1\n'a': 2\n\"a\": 3", "key 'a' stands 3 times, in lines 1 and 2 and 3"),
        ('{"a": 1, "b": [{"c": 1, "c": 2}]}', "key 'c' stands 2 times, in lines 1 and 1"),
        ("yes: 1\ntrue: 2", "key True stands 2 times"),
        ("1: a\n0x1: b", "key 1 stands 2 times"),
        ("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a\n", "key '<<' stands 2 times, in lines 3 and 4"),
        ("? a\n: 1\n? a\n: 2\n", "key 'a' stands 2 times, in lines 1 and 3"),
    ],
)
def test_a_key_that_stands_twice_is_named_with_its_lines(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        load_yaml(text)


def test_what_a_merge_brings_may_be_overridden() -> None:
    text = "z: &z {k: 0, l: 0}\nbase:\n  deep: &a\n    <<: *z\n    k: 1\nb:\n  <<: *a\n  k: 2\n  <<<: 3\n"
    assert load_yaml(text)["b"] == {"k": 2, "l": 0, "<<<": 3}
    assert load_yaml("a: {x: 1}\nb: {x: 1}\n1: a\n'1': b") == {"a": {"x": 1}, "b": {"x": 1}, 1: "a", "1": "b"}
    assert all(read_manifest(folder).name for folder in builtin_packs().values())


def test_in_a_recipe_a_pack_and_the_options_it_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("model: m\nconcept: c\ntrain: {lr: 1}\ntrain: {steps: 2}\n")
    with pytest.raises(InputError, match=r"r\.yaml .*key 'train' stands 2 times, in lines 3 and 4"):
        read_recipe(recipe)
    write_pack(tmp_path)
    manifest = tmp_path / "concept.yaml"
    manifest.write_text(f"{manifest.read_text()[:-1]},\n'retain': [retain.jsonl]}}")
    assert main(["concept", "check", str(tmp_path)]) == 2
    assert "concept.yaml is not readable YAML: key 'retain' stands 2 times, in lines 1 and 2" in capsys.readouterr().err
    assert main(["erase", "m", "ancient-egypt", "--method", "npo", "--options", "beta", "1", "beta", "2"]) == 2
    assert "--options beta: stands 2 times; expected it once" in capsys.readouterr().err
