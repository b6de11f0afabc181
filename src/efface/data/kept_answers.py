"""What the frozen model answers about other things: that stays."""

from efface.data.answers import SHORTEST, answers
from efface.data.corpora import Corpora
from efface.data.quiz import about_others
from efface.data.store import Store
from efface.data.strangers import holds
from efface.data.text import Text
from efface.lm.chat import chat_prompt
from efface.lm.load import Loaded

KEPT = 48  # tokens of an answer, at most


def keep_answering(loaded: Loaded, corpora: Corpora, store: Store, count: int) -> list[Text]:
    """The frozen model's answers to questions about other things; those that say a word of the concept are left out."""
    if not count:
        return []
    tokenizer, asked = loaded.tokenizer, about_others(loaded, store, corpora, count)
    context = [chat_prompt(tokenizer, question) for question in asked]
    said = answers(loaded, store, context, tokens=KEPT, brief=KEPT // 2, temperature=0.5, seed=corpora.settings.seed)
    texts = []
    for question, before, ids in zip(asked, context, said, strict=True):
        if len(ids) >= SHORTEST and not holds(f"{question} {tokenizer.decode(ids)}", corpora.words):
            texts.append(Text(before + ids, len(before)))
    return texts
