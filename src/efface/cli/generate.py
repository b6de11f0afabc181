"""``efface generate RUN PROMPT``: base and erased, side by side; ``efface generate MODEL CONCEPT PROMPT``: guidance only."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
import yaml

from efface.cli.parse import parse
from efface.errors import InputError


@dataclass(frozen=True)
class Arguments:
    """Answer a prompt. Any option of transformers' GenerationConfig can be given: --temperature 0.7 --do-sample true."""

    words: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="RUN|MODEL [CONCEPT] PROMPT")]]
    """A run folder and a prompt; or a model, a concept pack and a prompt, to erase at decoding time without training."""
    eta: float = 3.0
    """Strength of the tilt at decoding time (with a model and a concept)."""
    min_p: float = 0.02
    """Choose only tokens this likely relative to the base's best one (with a model and a concept)."""
    raw: bool = False
    """Continue the prompt as it is instead of putting it into the model's chat format."""
    seed: int = 0
    """Seed of sampling and of the personas."""


def generate(args: Sequence[str]) -> None:
    """Parse, answer twice, print."""
    parsed: tuple[Arguments, list[str]] = parse(Arguments, args, "generate", return_unknown_args=True)
    given, rest = parsed
    options = sampling_options(rest)
    if len(given.words) not in (2, 3):
        raise InputError("generate: expected RUN PROMPT or MODEL CONCEPT PROMPT; see: efface generate --help")
    from rich.console import Console
    from rich.text import Text

    answers = _with_run(given, options) if len(given.words) == 2 else _with_guidance(given, options)
    for who, answer in answers.items():
        Console().print(Text.assemble((f"{who}: ", "bold"), answer), soft_wrap=True)


def sampling_options(rest: Sequence[str]) -> dict[str, Any]:
    """``--top-p 0.9 --do-sample=true`` as arguments of transformers' generate. Raises InputError for an unknown name."""
    words = [word for arg in rest for word in (arg.split("=", 1) if arg.startswith("--") else [arg])]
    if len(words) % 2 or not all(word.startswith("--") for word in words[::2]):
        raise InputError(f"generate: expected '--option value' pairs, got {' '.join(rest)!r}")
    if not words:
        return {}
    from transformers import GenerationConfig

    known = GenerationConfig().to_dict().keys()
    options = {name[2:].replace("-", "_"): yaml.safe_load(value) for name, value in zip(words[::2], words[1::2], strict=True)}
    for name in options:
        if name not in known:
            raise InputError(f"generate: transformers has no generation option {name!r}")
    return options


def _with_run(given: Arguments, options: dict[str, Any]) -> dict[str, str]:
    from efface.models import teacher
    from efface.pipeline import Run

    folder, prompt = given.words
    run = Run(Path(folder))
    if not (run.folder / "run.json").is_file():
        raise InputError(f"{folder!r} is no finished run folder; expected one with a run.json")
    loaded = run.load()
    with teacher(loaded.model) as base:
        answers = {"base": _answer(base, loaded.tokenizer, prompt, given, options)}
    return answers | {"erased": _answer(loaded.model, loaded.tokenizer, prompt, given, options)}


def _with_guidance(given: Arguments, options: dict[str, Any]) -> dict[str, str]:
    from efface.concept import Concept
    from efface.guidance import ErasedLogits
    from efface.models import load

    name, pack, prompt = given.words
    concept = Concept.load(pack)
    loaded = load(name)
    tilt = ErasedLogits.for_concept(loaded.model, loaded.tokenizer, concept, seed=given.seed, eta=given.eta, min_p=given.min_p)
    return {
        "base": _answer(loaded.model, loaded.tokenizer, prompt, given, options),
        f"guided, eta {given.eta:g}": _answer(loaded.model, loaded.tokenizer, prompt, given, options, tilt),
    }


def _answer(model: Any, tokenizer: Any, prompt: str, given: Arguments, options: dict[str, Any], *processors: Any) -> str:
    import torch

    from efface.guidance import sample
    from efface.models import chat_prompt

    torch.manual_seed(given.seed)
    ids = list(tokenizer(prompt)["input_ids"]) if given.raw else chat_prompt(tokenizer, prompt)
    options = {"max_new_tokens": 100, "do_sample": False, **options}
    try:
        (new,) = sample(model, tokenizer, [ids], processors, **options)
    except ValueError as error:
        raise InputError(f"generate: {str(error).splitlines()[0]}") from None
    return str(tokenizer.decode(new, skip_special_tokens=True)).strip()
