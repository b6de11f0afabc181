"""A finished run folder."""

from dataclasses import dataclass
from pathlib import Path

from efface.auditing.scores import Audit
from efface.files import changed, read_json
from efface.lm.load import Loaded
from efface.recipe.record import RunRecord
from efface.runs.inputs import load_run


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
        """The same, and the hashes of base and adapter as they are here; as :func:`efface.runs.inputs.load_run`."""
        return load_run(self.folder, self.record, trust_remote_code=trust_remote_code)
