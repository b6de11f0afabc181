"""The audit: every scorer on the base and on the erased model, in one process with one set of weights."""

import json
from contextlib import nullcontext, suppress
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from efface.concept import Concept, Split
from efface.embedded import cache_dir
from efface.errors import RunError
from efface.models import Loaded, teacher
from efface.results import Answer, Audit, Measured, Score, read_json, write_json
from efface.scorers.answers import score_answers
from efface.scorers.choice import score_choices
from efface.scorers.open import answers, score_open
from efface.scorers.perplexity import score_perplexity
from efface.scorers.scorer import Scorer, Subject

SCORERS: tuple[Scorer, ...] = (score_choices, score_open, score_perplexity, score_answers)
PROMPT_TOKENS = 100


def audit_pair(loaded: Loaded, concept: Concept, split: Split = "test", base_key: str | None = None) -> Audit:
    """Measure a model with its adapter (erased) and with the adapter disabled (base). ``loaded.model`` carries the adapter.

    base_key: what identifies base model and pack; with it the base is measured once and its figures are kept in the cache.
    """
    base = _kept_base(loaded, concept, split, base_key) if base_key else measure(loaded, concept, split, erased=False)
    return Audit(concept=concept.name, split=split, base=base, erased=measure(loaded, concept, split, erased=True))


def _kept_base(loaded: Loaded, concept: Concept, split: Split, key: str) -> Measured:
    """The base's figures from the cache, else measured and put there.

    The entry's name covers model, tokenizer, pack, split, precision, device, library versions and every line of efface.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    parts = [key, split, str(model.dtype), model.device.type, model.config.to_json_string(), str(tokenizer.chat_template)]
    parts += [
        json.dumps(tokenizer.get_vocab(), sort_keys=True),
        *(version(name) for name in ("torch", "transformers", "lm-eval")),
    ]
    source = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.parent.rglob("*.py")))
    name = sha256(json.dumps(parts).encode() + source).hexdigest()[:24]
    file = cache_dir() / "audits" / f"{name}.json"
    with suppress(RunError):
        return read_json(file, Measured)
    base = measure(loaded, concept, split, erased=False)
    with suppress(OSError):  # a cache that cannot be written costs time, not the run
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, base)
    return base


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
