"""The command line: one small file a verb. Nothing here imports torch before a verb's arguments are known to be good."""

import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from efface.errors import EffaceError, TrainingError
from efface.processes import is_main
from efface.shown import complain, say

#: verb -> (module, function, what it does)
VERBS = {
    "erase": ("erase", "erase", "erase a concept from a model: prepare, train, measure, report"),
    "prepare": ("prepare", "prepare", "fill the store of targets ahead of training"),
    "audit": ("audit", "audit", "measure a run again, or a model that somebody else erased"),
    "report": ("report", "report", "write the page of a run again"),
    "compare": ("compare", "compare", "runs or methods side by side: erased against kept"),
    "tune": ("tune", "tune", "search for a recipe on a pack's tune questions"),
    "gate": ("gate", "gate", "exit 1 if a run breaches a limit"),
    "reproduce": ("reproduce", "reproduce", "make a run again from its record, and compare"),
    "export": ("export", "export", "write a run as weights that other programs load, and measure what ships"),
    "push": ("push", "push", "upload a run or an export to the hub"),
    "generate": ("generate", "generate", "answer a prompt as base and as erased model"),
    "chat": ("chat", "chat", "talk to base and erased model in the terminal, or in a pipe"),
    "play": ("play", "play", "talk to them in the browser"),
    "model fetch": ("model", "fetch", "fetch and convert an embedded model, print its folder"),
    "model path": ("model", "path", "print the folder of a model that was fetched"),
    "cache list": ("cache", "list_entries", "show what the store of targets holds"),
    "cache clear": ("cache", "clear", "remove stored targets"),
    "concept list": ("concept", "list_packs", "list the built-in concept packs"),
    "concept show": ("concept", "show", "show what a pack holds"),
    "concept tasks": ("concept", "tasks", "write a pack's questions as tasks for the harness"),
    "concept write": ("write", "write", "let a model write a pack from a name"),
    "concept new": ("write", "new", "write a commented pack to fill in by hand"),
    "concept check": ("concept", "check", "check a pack's files, and its questions with a model"),
}
RESUMABLE = {"erase", "prepare", "tune", "compare", "concept write", "reproduce", "push"}
ROOM = "a smaller --train.batch-size, --train.checkpointing, --load-in-4bit, or a smaller --data.max-tokens"
HELP = """usage: efface VERB …

Erase a concept from a language model, and measure what is left of it.

{}

'efface VERB --help' shows a verb's options."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Exit code: 0 done, 1 a gate is closed, 2 wrong input (one line on standard error), 130 interrupted, 141 nobody reads what is
    printed (``| head``).
    """
    args = list(sys.argv[1:] if argv is None else argv)
    code = None
    try:
        try:
            code = _run(args)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
        return code
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is not tried again
        if not isinstance(error, BrokenPipeError) and code != 2:  # then it was said
            complain(f"efface: standard output: {error.strerror or error}")
        return 141 if isinstance(error, BrokenPipeError) else 2


def _run(args: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # of what its encoding does not have
    of_group = [verb for verb in VERBS if args[1:] in (["-h"], ["--help"]) and verb.startswith(f"{args[0]} ")]
    if not args or args[0] in ("-h", "--help") or of_group:
        say(HELP.format("\n".join(f"  {verb:15} {VERBS[verb][2]}" for verb in of_group or VERBS)), lines=True)
        return 0
    if args[0] in ("-V", "--version"):
        import efface

        say(efface.__version__)
        return 0
    verb = next((verb for verb in VERBS if args[: len(verb.split())] == verb.split()), None)
    try:
        if verb is None:
            raise EffaceError(f"no verb {' '.join(args[:2])!r}; there are: {', '.join(VERBS)}")
        module, function, _ = VERBS[verb]
        _quiet(bars=verb == "push")
        code: int | None = getattr(import_module(f"efface.cli.{module}"), function)(args[len(verb.split()) :])
    except EffaceError as error:
        if is_main() or isinstance(error, TrainingError):  # the loss of any process may be the one that is not finite
            complain(f"efface: {error}")
        return 2
    except BrokenPipeError:
        raise
    except OSError as error:
        complain(f"efface: {error.filename or verb}: {error.strerror or error}")
        return 2
    except (MemoryError, RuntimeError) as error:
        from efface.auditing.batches import out_of_memory

        if not out_of_memory(error):
            raise
        complain(f"efface: out of memory; what helps: {ROOM}")
        return 2
    except KeyboardInterrupt:
        more = "; the same command goes on from here" if verb in RESUMABLE else ""
        complain(f"efface: interrupted{more}")
        return 130
    return code or 0


def _quiet(*, bars: bool = False) -> None:
    """Our own progress is enough: switch off the libraries' bars, notices and telemetry. bars: but for the bars of the hub's."""
    for name, value in {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        **({} if bars else {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}),
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",
        "PYTHONWARNINGS": "ignore::FutureWarning",
    }.items():
        os.environ.setdefault(name, value)
    import logging
    import warnings

    warnings.simplefilter("ignore", FutureWarning)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # which peft imports where it is there
