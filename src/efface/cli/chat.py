"""``efface chat RUN [RUN …]``: a conversation with base and erased model; ``efface chat MODEL``: with one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from efface.cli.guidance import ETA, MIN_P, check_guidance
from efface.cli.parse import parse
from efface.errors import InputError
from efface.runs.folder import is_run


@dataclass(frozen=True)
class Arguments:
    """Talk to a model. Lines are read from the terminal or from a pipe; /help lists what can be said besides questions."""

    what: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="RUN [RUN …]|MODEL")]]
    """A run folder, or several of one base; or a model: hub id, folder, .gguf file or alias."""
    concept: str | None = None
    """With a model: a concept pack, erased at decoding time, without training."""
    eta: float | None = None
    """Strength of the tilt at decoding time, with a concept (default: 3)."""
    guide_min_p: float | None = None
    """With a concept: choose only tokens this likely relative to the base's best one (default: 0.02)."""
    system: str = ""
    """What stands before the conversation."""
    temperature: float = 0.0
    """0: the likeliest token always."""
    tokens: int = 200
    """Longest answer."""
    seed: int = 0
    """Seed of sampling and of the personas."""


def chat(args: Sequence[str]) -> int:
    """Parse, load, talk."""
    given: Arguments = parse(Arguments, args, "chat")
    _check(given)

    from efface.serve.chat import Chat, talk
    from efface.serve.voices import Sampling

    return talk(Chat(_voices(given), Sampling(given.tokens, given.temperature, given.seed), given.system))


def _check(given: Arguments) -> None:
    """Raises InputError for what can be found wrong before a model is loaded."""
    check_guidance("chat", given)
    if not 0 <= given.temperature < math.inf:
        raise InputError(f"chat: --temperature: expected a number from 0 on, got {given.temperature}")
    if given.tokens < 1:
        raise InputError(f"chat: --tokens: expected a number from 1 on, got {given.tokens}")
    if not given.what:
        raise InputError("chat: expected a run folder, several, or a model; see: efface chat --help")
    for what in given.what:
        path = Path(what)
        if len(given.what) > 1 and not is_run(path):
            raise InputError(f"chat: {what!r} is no finished run folder; several are to be runs of one base")
        if len(path.parts) > 1 and path.parent.is_dir() and not path.exists():  # else it is looked for on the hub
            raise InputError(f"chat: no run {what!r}, and no model")
    if given.concept is not None and is_run(given.what[0]):
        raise InputError(f"chat: {given.what[0]} is a run and has its own concept erased; drop --concept")
    if given.concept is None and (given.eta is not None or given.guide_min_p is not None):
        raise InputError("chat: --eta and --guide-min-p go with MODEL --concept PACK")


def _voices(given: Arguments) -> Sequence[Any]:
    from efface.concept.pack import Concept
    from efface.lm.load import load
    from efface.runs.run import Run
    from efface.runs.several import load_several
    from efface.serve.voices import Voice, Weights, guided

    if is_run(given.what[0]):
        loaded, who = load_several([Run(Path(what)) for what in given.what])
        weights = Weights.of(loaded)
        return [Voice(name, weights, adapters) for name, adapters in who.items()]
    (model,) = given.what
    if given.concept is None:
        return [Voice("model", Weights.of(load(model)))]
    concept = Concept.load(given.concept)
    weights = Weights.of(load(model, dtype="float32"))  # what a tilt is computed in
    eta, min_p = ETA if given.eta is None else given.eta, MIN_P if given.guide_min_p is None else given.guide_min_p
    return [Voice("base", weights, ()), guided(weights, concept, eta=eta, min_p=min_p, seed=given.seed)]
