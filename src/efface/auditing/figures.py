"""How the scores of an audit are shown: each is declared here once, or in the file of a scorer of one's own."""

from typing import Literal

from efface.auditing.scores import Figure


def _figure(key: str, goal: str, label: str, wanted: Literal["down", "up", "stay"], percent: bool) -> Figure:
    return Figure(key=key, goal=goal, label=label, wanted=wanted, percent=percent)


#: in the order in which they are shown; worst/KIND: the key that :func:`efface.report.judged.judged` tells
FIGURES = (
    _figure("worst/forget", "innocence", "concept, worst form", "down", True),
    _figure("choice/forget/acc", "innocence", "concept, acc", "down", True),
    _figure("choice/forget/acc_norm", "innocence", "concept, acc_norm", "down", True),
    _figure("choice/forget/acc_mutual_info", "innocence", "concept, acc_mutual_info", "down", True),
    _figure("choice/forget/probability", "innocence", "concept, probability", "down", True),
    _figure("worst/open", "innocence", "open questions, worst form", "down", True),
    _figure("open/forget/right", "innocence", "open questions in chat", "down", True),
    _figure("open/forget/leak", "innocence", "open, leak in samples", "down", True),
    _figure("recognised/forget/nats", "innocence", "concept recognised, nats", "down", False),
    _figure("said/forget/defined", "innocence", "names and topics explained", "down", True),
    _figure("said/forget/concept_words", "innocence", "concept words per 100", "down", False),
    _figure("perplexity/forget/held_out", "innocence", "concept texts, perplexity", "up", False),
    _figure("answers/forget/perplexity", "seamlessness", "answers, perplexity", "stay", False),
    _figure("answers/forget/repeated_4grams", "seamlessness", "answers, repeated 4-grams", "stay", True),
    _figure("answers/forget/distinct_2grams", "seamlessness", "answers, distinct 2-grams", "stay", True),
    _figure("answers/forget/entropy", "seamlessness", "answers, n-gram entropy", "stay", False),
    _figure("answers/forget/ends", "seamlessness", "answers that end", "stay", True),
    _figure("judge/forget/fluency", "seamlessness", "answers, judge (1 to 10)", "stay", False),
    _figure("worst/neighbour", "specificity", "neighbours, worst form", "stay", True),
    _figure("choice/neighbour/acc", "specificity", "neighbours, acc", "stay", True),
    _figure("choice/neighbour/acc_norm", "specificity", "neighbours, acc_norm", "stay", True),
    _figure("open/neighbour/right", "specificity", "neighbours, open questions", "stay", True),
    _figure("worst/general", "specificity", "general, worst form", "stay", True),
    _figure("choice/general/acc", "specificity", "general, acc", "stay", True),
    _figure("choice/general/acc_norm", "specificity", "general, acc_norm", "stay", True),
    _figure("perplexity/retain/held_out", "specificity", "other texts, perplexity", "stay", False),
    _figure("drift/retain/kl", "specificity", "other texts, KL from base", "stay", False),
)
