"""A finished run folder."""

from dataclasses import dataclass
from pathlib import Path

import torch

from efface.auditing.scores import Audit
from efface.errors import RunError
from efface.files import changed, read_json
from efface.lm.adapters import read_adapter
from efface.lm.load import Loaded, weights_hash
from efface.recipe.recipe import Recipe
from efface.recipe.record import RunRecord
from efface.runs.inputs import load_model


@dataclass(frozen=True)
class Run:
    """A finished run folder."""

    folder: Path

    @property
    def record(self) -> RunRecord:
        """How the run came about."""
        return read_json(self.folder / "run.json", RunRecord)

    @property
    def audit(self) -> Audit:
        """What was measured on base and erased model."""
        return read_json(self.folder / "audit.json", Audit)

    def damaged(self) -> str | None:
        """The first file of the adapter that is there and is not what the record says."""
        bad = changed(self.folder, self.record.files)
        return bad if bad and (self.folder / bad).exists() else None

    def load(self, *, trust_remote_code: bool = False) -> Loaded:
        """The base model with this run's adapter on it; parameters and errors as in :meth:`load_hashed`."""
        return self.load_hashed(trust_remote_code=trust_remote_code)[0]

    def load_hashed(self, *, trust_remote_code: bool = False) -> tuple[Loaded, dict[str, str]]:
        """The base model with this run's adapter on it, and the hashes of both as they are here.

        trust_remote_code: run code that comes with the model; a run folder does not decide that, whatever its recipe says.
        Raises RunError for a model or an adapter that is not the run's.
        """
        record = self.record
        recipe, expected, other = (
            record.recipe,
            record.hashes,
            f"{self.folder}: its adapter is not the one whose hash is in run.json",
        )
        if bad := self.damaged():
            raise RunError(f"{other} ({bad})")
        recipe = recipe.model_copy(update={"trust_remote_code": trust_remote_code})
        loaded = load_model(recipe)
        base = weights_hash(loaded.model)
        if base != expected["model"] and not self._in_another_precision(recipe, loaded):
            raise RunError(f"{self.folder}: the weights of {recipe.model} are not those that the run was made from")
        student = read_adapter(loaded, self.folder / "adapter")
        hashes = {"model": base, "adapter": weights_hash(student)}
        if base == expected["model"] and hashes["adapter"] != expected["adapter"]:
            raise RunError(other)
        return Loaded(student, loaded.tokenizer, loaded.source, loaded.path), hashes  # type: ignore[arg-type]

    def _in_another_precision(self, recipe: Recipe, loaded: Loaded) -> bool:
        """Whether the run was made from these weights where ``auto`` means another precision, or 4 bits are others."""
        if recipe.dtype != "auto" or recipe.load_in_4bit:
            return recipe.load_in_4bit
        other = "float32" if loaded.model.dtype == torch.bfloat16 else "bfloat16"
        return weights_hash(load_model(recipe.model_copy(update={"dtype": other})).model) == self.record.hashes["model"]
