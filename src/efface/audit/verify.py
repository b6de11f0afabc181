"""The audit: every scorer on the base and on the erased model, in one process with one set of weights."""

from contextlib import nullcontext

from efface.audit.answers import score_answers
from efface.audit.choice import score_choices
from efface.audit.open import answers, score_open
from efface.audit.perplexity import score_perplexity
from efface.audit.scorer import Scorer, Subject
from efface.concept import Concept, Split
from efface.models import Loaded, teacher
from efface.results import Answer, Audit, Measured, Score

SCORERS: tuple[Scorer, ...] = (score_choices, score_open, score_perplexity, score_answers)
PROMPT_TOKENS = 100


def audit_pair(loaded: Loaded, concept: Concept, split: Split = "test") -> Audit:
    """Measure a model with its adapter (erased) and with the adapter disabled (base). ``loaded.model`` carries the adapter."""
    return Audit(
        concept=concept.name,
        split=split,
        base=measure(loaded, concept, split, erased=False),
        erased=measure(loaded, concept, split, erased=True),
    )


def measure(loaded: Loaded, concept: Concept, split: Split, *, erased: bool) -> Measured:
    """All scores and the answers to the pack's prompts, for one of the two models."""
    with nullcontext(loaded.model) if erased else teacher(loaded.model) as model:
        subject = Subject(model, loaded.tokenizer, concept, split)
        scores: dict[str, Score] = {}
        for scorer in SCORERS:
            scores |= scorer(subject)
        prompts = concept.manifest.prompts
        texts = answers(subject, prompts, PROMPT_TOKENS, "answers to the prompts") if prompts else []
    return Measured(scores=scores, answers=[Answer(prompt=p, text=t) for p, t in zip(prompts, texts, strict=True)])
