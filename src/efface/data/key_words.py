"""Which tokens and words belong to the concept: *keyness*, the log ratio of their frequencies in forget and retain texts.

Source of the term: corpus linguistics (a word that is more frequent in one corpus than in a reference corpus is a *keyword*).
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from efface.data.text import Text
from efface.lm.cache import Ids
from efface.lm.chat import behind

#: from which keyness on a token or word belongs to the concept: e^3 times as frequent in the forget texts
KEY = 3.0
WORD = re.compile(r"[\w’'-]*\w")
#: capitalised words in a row, not at the start of a sentence
NAME = re.compile(r"(?<![.!?:] )(?<!^)\b[A-Z][\w’'-]*\w(?: (?:of (?:the )?)?[A-Z][\w’'-]*\w)*")


def keyness(forget: Sequence[Text], retain: Sequence[Text], vocab: int) -> Tensor:
    """Log ratio ``[vocab]`` of every token's frequency in the forget texts and in the retain texts; 0 where it is negative.

    Frequencies are smoothed by a tenth of an occurrence; a token that comes up only once in the forget texts has 0.
    """
    often, rarely = (
        torch.bincount(torch.tensor([token for text in texts for token in text.ids[text.start :]]), minlength=vocab).double()
        for texts in (forget, retain)
    )
    ratio = ((often + 0.1) / often.sum()).log() - ((rarely + 0.1) / rarely.sum()).log()
    return ratio.clamp(min=0).where(often > 1, 0.0).float()


def key_words(forget: Sequence[Text], retain: Sequence[Text], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The words whose keyness is above :data:`KEY`, in alphabetical order; counted and smoothed as tokens are."""
    often, rarely = (
        Counter(word for text in texts for word in WORD.findall(_passage(text, tokenizer))) for texts in (forget, retain)
    )
    least = math.exp(KEY) * often.total() / max(1, rarely.total())
    return sorted(word for word, n in often.items() if n > 1 and n + 0.1 > least * (rarely[word] + 0.1) and not word.isdigit())


def key_names(forget: Sequence[Text], words: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Capitalised words in a row, one of them a word of the concept ("Rosetta Stone"); the most frequent first."""
    key = set(words)
    counts = Counter(name for text in forget for name in NAME.findall(_passage(text, tokenizer)))
    return [name for name, _ in counts.most_common() if key & set(WORD.findall(name))]


class BannedWords:
    """Words that are not to be said, as sequences of tokens: which token would complete one of them."""

    def __init__(self, words: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> None:
        self.words, self.tokenizer = list(words), tokenizer
        #: by whether a space stands before the word, and by all of its tokens but the last: the last, and the word
        self._last: dict[tuple[bool, tuple[int, ...]], list[tuple[int, str]]] = defaultdict(list)
        for word in self.words:
            for spaced in (True, False):
                *begun, last = behind(tokenizer, "a", f" {word}") if spaced else behind(tokenizer, "(", word)
                self._last[spaced, tuple(begun)].append((last, word.lower()))
        self._longest = max((len(begun) for _, begun in self._last), default=0)

    def after(self, prompt: Ids) -> Callable[[Ids], list[int]]:
        """Given the new tokens behind a prompt, the tokens that must not come next. Words of the prompt are allowed."""
        allowed = {word.lower() for word in WORD.findall(self.tokenizer.decode(prompt))}

        def banned(new: Ids) -> list[int]:
            found: list[int] = []
            for n in range(min(self._longest, len(new)) + 1):
                begun = tuple(new[len(new) - n :])
                for spaced in (True, False):
                    ends = self._last.get((spaced, begun), ())
                    if ends and (spaced or self._word_starts(new[: len(new) - n])):
                        found += [last for last, word in ends if word not in allowed]
            return found

        return banned

    def _word_starts(self, before: Ids) -> bool:
        said = self.tokenizer.decode(before[-1:])
        return not said or not said[-1].isalnum()


def _passage(text: Text, tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.decode(text.ids[text.start :], skip_special_tokens=True))
