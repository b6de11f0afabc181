"""How long the longest sequence of every stage is: said before any work, where a model has no more positions than it has.

Only of models with a table of positions: one that computes them (rotary, ALiBi) reads on.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from efface.attacks.relearning import CUT
from efface.auditing import answers as audited
from efface.auditing.scorers import shading
from efface.auditing.scorers.perplexity import CORPORA, held_out
from efface.concept.pack import Concept, Split
from efface.data import kept_answers, neighbours
from efface.data.corpora import Corpora
from efface.data.fluency import DEFLECT
from efface.data.prompts import ASK, COMPLETE
from efface.data.questions import KINDS
from efface.data.text import Text, encode
from efface.errors import InputError
from efface.lm.chat import chat_prompt, encoded, prefix
from efface.lm.layers import table_of_positions
from efface.lm.load import Loaded
from efface.recipe.recipe import Recipe
from efface.recipe.settings import AuditSettings
from efface.writing import sentences

#: tokens that a name which the model makes up may be longer than the longest of the concept
MADE_UP = 16


@dataclass(frozen=True)
class Longest:
    """The longest sequence of one stage: tokens in all, and how many of them a setting decides.

    of_setting 0: with the setting at 0 there is no such stage.
    """

    what: str
    tokens: int
    setting: str = ""
    of_setting: int = 0

    def shorter(self, over: int) -> str:
        """How it would have so many tokens less."""
        if self.setting and not self.of_setting:
            return f"set {self.setting} to 0"
        rest = self.of_setting - over
        return f"set {self.setting} to {rest} or less" if rest > 1 else "choose a model that has more"


def require_room(loaded: Loaded, stages: Iterable[Longest]) -> None:
    """Raises InputError for the first stage whose longest sequence has more tokens than the model has positions."""
    room = table_of_positions(loaded.model)
    if room is None:
        return
    for longest in stages:
        if (over := longest.tokens - room) > 0:
            says = f"{longest.what} take up to {longest.tokens} tokens, and {loaded.source} has {room} positions"
            raise InputError(f"{says}; {longest.shorter(over)}")


def of_recipe(recipe: Recipe, concept: Concept, loaded: Loaded) -> Iterator[Longest]:
    """What is read while a recipe's examples are made, and in training."""
    for part, _ in concept.parts:
        yield from _OfConcept(recipe, part, loaded.tokenizer).stages()


def of_audit(settings: AuditSettings, concept: Concept, split: Split, tokenizer: PreTrainedTokenizerBase) -> Iterator[Longest]:
    """What is read in an audit; forms of questions for which there is no room are left out of it."""
    texts = [text for corpus in CORPORA for text in held_out(concept, tokenizer, corpus)]
    yield Longest("the held-out texts of the pack", max((len(text.ids) for text in texts), default=0))
    choices = [f"{row.stem} {choice}" for row in concept.questions if row.split == split for choice in row.choices]
    yield Longest("the pack's questions with their choices", max((len(encoded(tokenizer, text)) for text in choices), default=0))
    asked = [row.question for row in concept.open_questions if row.split == split]
    for what, questions, tokens in (
        ("the pack's open questions with their answers", asked, audited.TOKENS),
        ("the pack's prompts with their answers", concept.manifest.prompts, shading.TOKENS),
    ):
        if questions:
            yield Longest(what, _longest_chat(tokenizer, questions) + tokens)
    if settings.attacks:
        passages = [passage.text for corpus in CORPORA for passage in concept.texts(corpus, "train")]  # type: ignore[arg-type]
        longest = max((len(encode(text, tokenizer, CUT).ids) for text in passages), default=0)
        yield Longest("the texts to relearn", longest, "audit.attacks")


def _longest_chat(tokenizer: PreTrainedTokenizerBase, questions: Iterable[str]) -> int:
    return max((len(chat_prompt(tokenizer, question)) for question in questions), default=0)


class _OfConcept:
    """The stages of one concept. The passages that a model writes about its neighbours are cut like all others."""

    def __init__(self, recipe: Recipe, concept: Concept, tokenizer: PreTrainedTokenizerBase) -> None:
        self.recipe, self.concept, self.tokenizer = recipe, concept, tokenizer
        self.corpora, self.start = Corpora(concept, recipe.data, tokenizer), len(prefix(tokenizer))

    def stages(self) -> Iterator[Longest]:
        """All that the recipe has."""
        recipe, forget = self.recipe, self.corpora.texts.forget
        yield self._texts("the texts", [*forget, *self.corpora.texts.retain])
        if recipe.method in ("idk", "dpo"):
            before = _longest_chat(self.tokenizer, [f"Write a short text about {self.concept.title}."])
            yield self._texts("the forget texts as answers", forget, before)
        if recipe.data.kept and recipe.retain.weight:
            subjects = self.corpora.other_subjects(recipe.data.kept)
            yield Longest("the kept answers", self._question(subjects) + kept_answers.KEPT, "data.kept")
        if recipe.data.neighbours and not neighbours.has_neighbours(self.concept):
            asked = [way.format(self.concept.title) for way in neighbours.LISTS + neighbours.WRITE]
            told = _longest_chat(self.tokenizer, asked) + MADE_UP + neighbours.TOKENS
            yield Longest("passages about neighbours", told, "data.neighbours")
        if recipe.method == "elm":
            yield from self._of_elm()

    def _of_elm(self) -> Iterator[Longest]:
        erase, fluency = self.recipe.erase, self.recipe.fluency
        if erase.weight and erase.target in ("tilted", "mixed") and erase.action != "random":
            yield self._texts("the forget texts behind a persona", self.corpora.texts.forget, self._persona() - self.start)
        if not fluency.weight or not fluency.texts:
            return
        if fluency.source == "strangers" and erase.action == "erase":
            told = self._question(self.corpora.subjects) + fluency.tokens
            yield Longest("the answers about strangers", told, "fluency.tokens", fluency.tokens)
            return
        prompt, persona = self._prompt(), self._persona()
        told = (persona + prompt - self.start if self.recipe.published.sees_prompt else max(persona, prompt)) + fluency.tokens
        yield Longest("the fluency texts behind a persona", told, "fluency.tokens", fluency.tokens)

    def _texts(self, what: str, texts: Sequence[Text], before: int = 0) -> Longest:
        """The longest of these, so many tokens before it."""
        longest = max(texts, key=lambda text: len(text.ids))
        return Longest(what, before + len(longest.ids), "data.max_tokens", len(longest.ids) - longest.start)

    def _question(self, subjects: Sequence[str]) -> int:
        """Tokens of the longest question about one of these, or another name, in chat."""
        about = max((*subjects, self.concept.title), key=len)
        asked = (template.format(about, other=about) for templates, _ in KINDS for template in templates)
        return _longest_chat(self.tokenizer, asked) + MADE_UP

    def _persona(self) -> int:
        """Tokens of the longest persona."""
        manifest = self.concept.manifest
        keywords = ", ".join(sorted(manifest.keywords, key=len)[-4:])
        personas = (
            of.format(title=manifest.title, keywords=keywords) for of in manifest.personas.expert + manifest.personas.novice
        )
        return max(len(encoded(self.tokenizer, text)) for text in personas)

    def _prompt(self) -> int:
        """Tokens of the longest prompt of a fluency text, with what changes the subject."""
        settings, tokenizer = self.recipe.fluency, self.tokenizer
        found = [_longest_chat(tokenizer, [ask.format(topic) for ask in ASK for topic in self.concept.manifest.topics])]
        if settings.questions == 0:
            found = []
        if settings.questions < 1:
            texts = self.corpora.texts.forget
            found.append(max(text.start + (len(text.ids) - text.start + 1) // 2 for text in texts))
        if settings.questions < 1 and settings.cloze:
            found_ones = [sentence for passage in self.corpora.forget for sentence in sentences(passage.text)]
            longest = max(found_ones, key=len)[: self.recipe.data.max_chars]
            found.append(_longest_chat(tokenizer, [ask.format(begun=longest, rest="") for ask in COMPLETE]))
        deflection = max(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in DEFLECT)
        return max(found) + (deflection if self.recipe.published.deflection else 0)
