"""``efface chat``: a conversation in the terminal, or in a pipe."""

import io
import json
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from os.path import expanduser
from pathlib import Path
from threading import Event

from efface.errors import EffaceError, InputError
from efface.files import write_text
from efface.serve.conversation import Turns, as_ids, fitting
from efface.serve.screen import in_turn, side_by_side
from efface.serve.voices import Sampling, Voice, stream, usable_temperature
from efface.shown import complain, say

HELP = """/base, /erased, /both   who answers from now on (/both: all); each has a history of its own
/who NAME               the same by name, where several runs are loaded; without a name: who is there
/system TEXT            what stands before the conversation; without a text: nothing
/temperature X          0: the likeliest token always
/reset                  forget what was said
/save FILE              write what was said, as JSON
/help, /quit            or Ctrl-D; Ctrl-C stops an answer"""
BEGUN = "it has no chat format: your text is gone on with, not answered"


@dataclass
class Chat:
    """A conversation with one voice or several.

    speaking: those who answer now. history: what each was asked and said, by name. asked: how many questions, for the seed.
    """

    voices: Sequence[Voice]
    sampling: Sampling = Sampling()  # noqa: RUF009  (frozen)
    system: str = ""
    speaking: Sequence[Voice] = field(init=False)
    history: dict[str, list[tuple[str, str]]] = field(init=False)
    asked: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.speaking = self.voices
        self._forget("")
        if self.system:
            self._system(self.system)

    def run(self, lines: Iterable[str], *, echo: bool = False) -> int:
        """Answer line by line, until there are none or one says /quit. echo: show what was asked, where nobody typed it.

        Returns 2 where a line could not be answered, else 0.
        """
        code = 0
        if self.voices[0].weights.loaded.tokenizer.chat_template is None:
            complain(f"{self.voices[0].weights.loaded.source}: {BEGUN}")
        for line in map(str.strip, lines):
            try:
                if line == "/quit":
                    break
                if line.startswith("/"):
                    self._command(*line[1:].partition(" ")[::2])
                elif line:
                    if echo:
                        say(f"> {line}")
                    self._answer(line)
            except EffaceError as error:
                complain(error)
                code = 2
        return code

    def _command(self, name: str, text: str) -> None:
        commands: dict[str, Callable[[str], None]] = {
            "base": lambda _: self._let_speak(self.voices[:1]),
            "erased": lambda _: self._let_speak(self.voices[1:]),
            "both": lambda _: self._let_speak(self.voices),
            "who": self._who,
            "system": self._system,
            "temperature": self._temperature,
            "reset": self._forget,
            "save": self._save,
            "help": lambda _: say(HELP, lines=True),
        }
        if name not in commands:
            raise InputError(f"no command /{name}; there are: {', '.join(f'/{of}' for of in (*commands, 'quit'))}")
        commands[name](text.strip())

    def _let_speak(self, voices: Sequence[Voice]) -> None:
        if len(self.voices) < 2:
            raise InputError("there is one model here; a run, or a model with --concept, has two")
        self.speaking = voices

    def _who(self, name: str) -> None:
        names = [voice.name for voice in self.voices]
        if not name:
            say("\n".join(names), lines=True)
        elif name not in names:
            raise InputError(f"/who: nobody is called {name!r}; there are: {', '.join(names)}")
        else:
            self.speaking = [self.voices[names.index(name)]]

    def _system(self, text: str) -> None:
        tokenizer = self.voices[0].weights.loaded.tokenizer
        if text and tokenizer.chat_template is None:
            raise InputError("/system: the model has no chat format, so nothing can stand before a conversation")
        as_ids(tokenizer, [*self._before(text), ("user", "?")])
        self.system = text

    def _temperature(self, text: str) -> None:
        try:
            value = float(text)
        except ValueError:
            value = -1
        if not usable_temperature(value):
            raise InputError(f"/temperature: expected a number from 0 on, got {text!r}")
        self.sampling = replace(self.sampling, temperature=value)

    def _forget(self, _: str) -> None:
        self.history = {voice.name: [] for voice in self.voices}

    def _save(self, name: str) -> None:
        if not name:
            raise InputError("/save: expected the name of a file")
        file = Path(expanduser(name))
        if file.exists():
            raise InputError(f"/save: {name} is there already; name another file")
        said = {
            voice: [{"role": role, "content": content} for role, content in [*self._before(self.system), *turns]]
            for voice, turns in self.history.items()
        }
        whole = {"model": self.voices[0].weights.loaded.source, "temperature": self.sampling.temperature, "said": said}
        write_text(file, json.dumps(whole, indent=2, ensure_ascii=False) + "\n")

    def _answer(self, question: str) -> None:
        answers = {}
        for voice in self.speaking:
            turns = [*self._before(self.system), *self.history[voice.name], ("user", question)]
            ids, tokens, dropped = fitting(voice, turns, self.sampling.tokens)
            if dropped:
                del self.history[voice.name][:dropped]
                complain(f"{voice.name}: no room for the whole conversation; its {dropped} oldest turns are dropped")
            how = replace(self.sampling, tokens=tokens, seed=self.sampling.seed + self.asked)
            answers[voice.name] = stream(voice, ids, how)
        said = self._shown(answers)
        self.asked += 1
        for name, answer in said.items():
            self.history[name] += [("user", question), ("assistant", answer)]

    def _shown(self, answers: Mapping[str, Iterator[str]]) -> dict[str, str]:
        with until_interrupted() as stopped:
            return (side_by_side if len(answers) > 1 else in_turn)(answers, stopped.is_set)

    @staticmethod
    def _before(system: str) -> Turns:
        return [("system", system)] if system else []


@contextmanager
def until_interrupted() -> Iterator[Event]:
    """An event that Ctrl-C sets, so that nothing is left half switched; the second time it is what it always is."""
    stopped = Event()

    def stop(*_: object) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)


def typed() -> Iterator[str]:
    """Lines that somebody types, with their history; Ctrl-C drops a line, Ctrl-D ends."""
    with suppress(ImportError):
        import_module("readline")
    while True:
        try:
            yield input("> ")
        except KeyboardInterrupt:
            say("")
        except EOFError:
            say("")
            return


def talk(chat: Chat) -> int:
    """A conversation with whoever writes to standard input. Returns the exit code."""
    if sys.stdin is None:
        return 0
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # of what is no text
    if not sys.stdin.isatty():
        return chat.run(sys.stdin, echo=True)
    who = " and ".join(voice.name for voice in chat.voices)
    say(f"{chat.voices[0].weights.loaded.source}: {who}; /help lists the commands, Ctrl-D ends")
    chat.run(typed())
    return 0
