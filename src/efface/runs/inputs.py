"""What a run is made from: model, store of targets, and what identifies them."""

from hashlib import sha256
from itertools import chain
from pathlib import Path

import torch

from efface.auditing.scorers.perplexity import CORPORA, held_out
from efface.concept.pack import Concept, Split
from efface.data.store import Store, limit
from efface.data.text import require_length
from efface.errors import ModelError, RunError
from efface.files import changed, read_json
from efface.lm.adapters import read_adapter
from efface.lm.layers import linear_modules, reached
from efface.lm.load import Loaded, load, require_no_revision, resolve_dtype, weights_hash
from efface.lm.states import require_head
from efface.processes import is_main, processes, rank
from efface.recipe.own import is_file
from efface.recipe.recipe import Recipe
from efface.recipe.record import Layer, RunRecord
from efface.runs.folder import RECORD, is_run
from efface.runs.lengths import of_audit, of_recipe, require_room
from efface.shown import complain


def load_model(recipe: Recipe) -> Loaded:
    """The model that a recipe names, as it wants it; of a run its base with the adapter merged into it."""
    if is_run(recipe.model):
        return _merged(recipe)
    options = recipe.model_dump(include={"revision", "dtype", "trust_remote_code", "device_map", "load_in_4bit"})
    loaded = load(recipe.model, **options)
    require_head(loaded.model)
    return loaded


def _merged(recipe: Recipe) -> Loaded:
    """The run that a recipe names as its model: merged in float32, and cast once. Raises RunError where it is damaged."""
    require_no_revision(recipe.model, recipe.revision)
    for name in ("load_in_4bit", "device_map"):
        if getattr(recipe, name):
            raise ModelError(
                f"{name} takes a whole model from the disk, and {recipe.model} is a run; "
                f"write it with: efface export {recipe.model} --to DIR, and name that folder"
            )
    folder = Path(recipe.model)
    record = read_json(folder / RECORD, RunRecord)
    whole = {"dtype": "float32", "load_in_4bit": False, "device_map": None, "trust_remote_code": recipe.trust_remote_code}
    require_below(folder, record)
    base = load_model(record.recipe.model_copy(update=whole))
    _require_own_base(folder, record, base)
    merged = read_adapter(base, folder / "adapter").merge_and_unload()
    _cast(merged, resolve_dtype(recipe.dtype))
    return Loaded(merged.eval(), base.tokenizer, recipe.model, recipe.model)


def _require_own_base(folder: Path, record: RunRecord, base: Loaded) -> None:
    """Raises RunError where these weights in float32 are not those that a run was made from, or its adapter is another."""
    if bad := changed(folder, record.files):
        raise RunError(f"{folder}: its adapter is not the one whose hash is in run.json ({bad})")
    dtypes = ("float32", "bfloat16") if record.recipe.dtype == "auto" else (record.recipe.dtype,)
    known = record.files and not record.recipe.load_in_4bit
    if not (known and record.hashes["model"] in (weights_hash(base.model, resolve_dtype(dtype)) for dtype in dtypes)):
        load_run(folder, record)


def _cast(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Give weights a precision; what is computed from the configuration (positions) keeps its own."""
    for tensor in (of for of in model.state_dict(keep_vars=True).values() if of.is_floating_point()):
        tensor.data = tensor.data.to(dtype)
    model.config.dtype = dtype


def layers(recipe: Recipe) -> tuple[Layer, ...]:
    """The runs that a recipe's model consists of, the first of them first; none for a model that is no run."""
    if not is_run(recipe.model):
        return ()
    record = read_json(Path(recipe.model) / RECORD, RunRecord)
    own = Layer(run=recipe.model, model=record.recipe.model, concept=record.recipe.concept, hashes=record.hashes)
    return (*layers(record.recipe), own)


def require_below(folder: Path, record: RunRecord) -> None:
    """Raises RunError where the run that this one stands on is not where it was."""
    if record.stands_on and not is_run(record.recipe.model):
        raise RunError(f"{folder} stands on the run {record.recipe.model}, which is not there; put it back")


def load_run(folder: Path, record: RunRecord, *, trust_remote_code: bool = False) -> tuple[Loaded, dict[str, str]]:
    """The base of a finished run with its adapter on it, and the hashes of both as they are here.

    trust_remote_code: run code that comes with the model; a run folder does not decide that, whatever its recipe says.
    Raises RunError for a model or an adapter that is not the run's.
    """
    other = f"{folder}: its adapter is not the one whose hash is in run.json"
    if (bad := changed(folder, record.files)) and (folder / bad).exists():
        raise RunError(f"{other} ({bad})")
    require_below(folder, record)
    recipe, expected = record.recipe.model_copy(update={"trust_remote_code": trust_remote_code}), record.hashes
    loaded = load_model(recipe)
    base = weights_hash(loaded.model)
    if base != expected["model"] and not (_of_the_same_runs(record) or _in_another_precision(record, recipe, loaded)):
        raise RunError(f"{folder}: the weights of {recipe.model} are not those that the run was made from")
    student = read_adapter(loaded, folder / "adapter")
    hashes = {"model": base, "adapter": weights_hash(student)}
    if base == expected["model"] and hashes["adapter"] != expected["adapter"]:
        raise RunError(other)
    return Loaded(student, loaded.tokenizer, loaded.source, loaded.path), hashes  # type: ignore[arg-type]


def _in_another_precision(record: RunRecord, recipe: Recipe, loaded: Loaded) -> bool:
    """Whether a run was made from these weights where ``auto`` means another precision, or 4 bits are others."""
    if recipe.dtype != "auto" or recipe.load_in_4bit:
        return recipe.load_in_4bit
    other = "float32" if loaded.model.dtype == torch.bfloat16 else "bfloat16"
    return weights_hash(load_model(recipe.model_copy(update={"dtype": other})).model) == record.hashes["model"]


def _of_the_same_runs(record: RunRecord) -> bool:
    """Whether a run's base is merged from the very runs that it was: another processor sums in another order."""
    return bool(record.stands_on) and [of.hashes for of in layers(record.recipe)] == [of.hashes for of in record.stands_on]


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
