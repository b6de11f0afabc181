"""``efface generate RUN [RUN …] PROMPT``: base and erased; ``efface generate MODEL CONCEPT PROMPT``: guidance only."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import tyro

from efface.cli.guidance import ETA, MIN_P, check_guidance
from efface.cli.parse import parse
from efface.errors import InputError, first_line, shortened
from efface.recipe.yaml import load_yaml
from efface.runs.folder import is_run
from efface.shown import for_terminal


@dataclass(frozen=True)
class Arguments:
    """Answer a prompt. Any option of transformers' GenerationConfig can be given: --temperature 0.7 --do-sample true."""

    words: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="RUN [RUN …] PROMPT|MODEL CONCEPT PROMPT")]]
    """A run folder, or several of one base, and a prompt; or a model, a concept pack and a prompt, to erase at decoding time."""
    eta: float | None = None
    """Strength of the tilt at decoding time, with a model and a concept (default: 3)."""
    guide_min_p: float | None = None
    """With a model and a concept: choose only tokens this likely relative to the base's best one (default: 0.02)."""
    raw: bool = False
    """Continue the prompt as it is instead of putting it into the model's chat format."""
    seed: int = 0
    """Seed of sampling and of the personas."""


OWN = {f"--{field.name.replace('_', '-')}" for field in fields(Arguments)} | {"--no-raw", "--help", "-h"}
TOKENS = 100  # of an answer
ONE_ANSWER = ("num_return_sequences", "return_dict_in_generate")


def generate(args: Sequence[str]) -> None:
    """Parse, answer twice, print."""
    own, rest = split_options(args)
    given: Arguments = parse(Arguments, own, "generate")
    options = sampling_options(rest)
    check_guidance("generate", given)
    before, guided = given.words[:-1], given.eta is not None or given.guide_min_p is not None
    runs = [] if len(before) == 1 and guided else _runs(before)
    if guided and (runs or len(before) == 1):
        raise InputError("generate: --eta and --guide-min-p go with MODEL CONCEPT PROMPT, not with a run")
    if len(before) != 2 and not runs:
        raise InputError("generate: expected RUN [RUN …] PROMPT or MODEL CONCEPT PROMPT; see: efface generate --help")
    from rich.console import Console
    from rich.text import Text

    answers = _with_runs(runs, given, options) if runs else _with_guidance(given, options)
    for who, answer in answers.items():
        Console().print(Text.assemble((f"{who}: ", "bold"), for_terminal(answer, lines=True)), soft_wrap=True)


def split_options(args: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Our own arguments, and (name, value) of every other option: those are transformers'."""
    own: list[str] = []
    others: list[tuple[str, str]] = []
    words = iter(args)
    for word in words:
        name, equals, value = word.partition("=")
        if word == "--":
            own += [word, *words]
        elif not name.startswith("--") or name.replace("_", "-") in OWN:
            own.append(word)
        elif (value := value if equals else next(words, "")) == "":
            raise InputError(f"generate: expected a value after {name}")
        else:
            others.append((name[2:].replace("-", "_"), value))
    return own, others


def sampling_options(others: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Names and values as arguments of transformers' generate. Raises InputError for one that it does not have."""
    if not others:
        return {}
    from transformers import GenerationConfig

    known = GenerationConfig().to_dict().keys() - set(ONE_ANSWER)
    options = {}
    for name, value in others:
        if name not in known:
            raise InputError(f"generate: no option {name!r}, neither here nor in transformers' GenerationConfig")
        try:
            options[name] = load_yaml(value)
        except ValueError:
            raise InputError(f"generate: cannot read the value of {name}: {shortened(value)}") from None
    return options


def _runs(words: Sequence[str]) -> list[Path]:
    """The run folders before a prompt; none where a model and a concept are named. Raises InputError for what is neither."""
    runs = [Path(word) for word in words]
    missing = [word for word in words if not is_run(word)]
    if missing and (len(words) == 1 or len(missing) < len(words)):
        raise InputError(f"{missing[0]!r} is no finished run folder; expected one with a run.json")
    return [] if missing else runs


def _with_runs(runs: Sequence[Path], given: Arguments, options: dict[str, Any]) -> dict[str, str]:
    from efface.lm.adapters import only
    from efface.runs.run import Run
    from efface.runs.several import load_several

    loaded, who = load_several([Run(folder) for folder in runs])
    _require_room(loaded, given, options)
    answers = {}
    for name, adapters in who.items():
        with only(loaded.model, adapters) as model:
            answers[name] = _answer(model, loaded.tokenizer, given.words[-1], given, options)
    return answers


def _with_guidance(given: Arguments, options: dict[str, Any]) -> dict[str, str]:
    from efface.concept.pack import Concept
    from efface.decoding import ErasedLogits
    from efface.lm.load import load

    name, pack, prompt = given.words
    concept = Concept.load(pack)
    loaded = load(name, dtype="float32")  # what a tilt is computed in
    eta = ETA if given.eta is None else given.eta
    min_p = MIN_P if given.guide_min_p is None else given.guide_min_p
    tilt = ErasedLogits.for_concept(loaded.model, loaded.tokenizer, concept, seed=given.seed, eta=eta, min_p=min_p)
    _require_room(loaded, given, options, max(len(ids) for pair in tilt.personas for ids in pair))
    return {
        "base": _answer(loaded.model, loaded.tokenizer, prompt, given, options),
        f"guided, eta {eta:g}": _answer(loaded.model, loaded.tokenizer, prompt, given, options, tilt),
    }


def _ids(tokenizer: Any, prompt: str, given: Arguments) -> list[int]:
    from efface.lm.chat import chat_prompt, encoded

    ids = encoded(tokenizer, prompt) if given.raw else chat_prompt(tokenizer, prompt)
    if not ids:
        raise InputError("generate: expected a PROMPT that is not empty")
    return ids


def _require_room(loaded: Any, given: Arguments, options: dict[str, Any], before: int = 0) -> None:
    """Raises InputError for an answer that the model has no positions for. before: tokens of a persona."""
    from efface.runs.lengths import Longest, require_room

    tokens, ids = options.get("max_new_tokens", TOKENS), _ids(loaded.tokenizer, given.words[-1], given)
    if isinstance(tokens, int):  # else transformers says what is wrong with it
        longest = Longest("prompt and answer", before + len(ids) + tokens, "--max-new-tokens", tokens)
        require_room(loaded, [longest])


def _answer(model: Any, tokenizer: Any, prompt: str, given: Arguments, options: dict[str, Any], *processors: Any) -> str:
    import torch

    from efface.data.sample import sample

    torch.manual_seed(given.seed)
    ids = _ids(tokenizer, prompt, given)
    try:
        (new,) = sample(model, tokenizer, [ids], processors, **{"max_new_tokens": TOKENS, "do_sample": False, **options})
    except (ValueError, TypeError, ArithmeticError, LookupError, RuntimeError) as error:
        asked = ", ".join(f"{name} {value}" for name, value in options.items()) or "no options"
        raise InputError(f"generate: no answer with {asked}: {first_line(error)}") from None
    return str(tokenizer.decode(new, skip_special_tokens=True)).strip()
