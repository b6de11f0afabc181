"""What a run is made from: model, store of targets, and what identifies them."""

from hashlib import sha256
from itertools import chain
from pathlib import Path

from efface.auditing.scorers.perplexity import CORPORA, held_out
from efface.concept.pack import Concept, Split
from efface.data.store import Store, limit
from efface.data.text import require_length
from efface.lm.layers import linear_modules, reached
from efface.lm.load import Loaded, load
from efface.lm.states import require_head
from efface.processes import is_main, processes, rank
from efface.recipe.own import is_file
from efface.recipe.recipe import Recipe
from efface.runs.lengths import of_audit, of_recipe, require_room
from efface.shown import complain


def load_model(recipe: Recipe) -> Loaded:
    """The model that a recipe names, as it wants it."""
    options = recipe.model_dump(include={"revision", "dtype", "trust_remote_code", "device_map", "load_in_4bit"})
    loaded = load(recipe.model, **options)
    require_head(loaded.model)
    return loaded


def load_concept(recipe: Recipe) -> Concept:
    """The concept that a recipe names. Raises ConceptError for a text of the pack's own that is too short to train on."""
    concept = Concept.load(recipe.concept, recipe.data.min_chars)
    for passage in (*concept.texts("forget", "train"), *concept.texts("retain", "train")):
        require_length(passage.text, recipe.data)
    return concept


def input_hashes(recipe: Recipe, concept: Concept) -> dict[str, str]:
    """Of the concept, and of the file that a method of one's own is: what a run that was begun or finished was made from."""
    own = is_file(recipe.method)
    return {"concept": concept.digest, **({"method": sha256(Path(recipe.method).read_bytes()).hexdigest()[:16]} if own else {})}


def target_store(loaded: Loaded, model_hash: str) -> Store:
    """The store of what this model says, at its precision on its device; several processes of one job share the work."""
    model = loaded.model
    limit()  # a wrong limit is said before any work
    context = {
        "model": model_hash,
        "config": sha256(model.config.to_json_string().encode()).hexdigest()[:16],
        "dtype": str(model.dtype),
        "device": model.device.type,
    }
    return Store(context, (rank(), processes()))


def look_ahead(recipe: Recipe, concept: Concept, loaded: Loaded, split: Split) -> None:
    """Raises an EffaceError for what would fail after the work began, and says what training will not reach."""
    require_room(loaded, chain(of_recipe(recipe, concept, loaded), of_audit(recipe.audit, concept, split, loaded.tokenizer)))
    chosen = linear_modules(loaded.model, recipe.lora.layers, recipe.lora.modules)
    if recipe.lora.modules == "all" and (share := reached(loaded.model, chosen)) < 0.9 and is_main():
        left = "the rest are no linear modules (the experts of a mixture), stay as they are and may keep the concept"
        complain(f"lora.modules all reaches {share:.0%} of these layers' weights; {left}")
    for corpus in CORPORA:
        held_out(concept, loaded.tokenizer, corpus)
