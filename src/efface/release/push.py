"""A run or an export goes to the hub: what is sent is whole and names no place of this machine, and is public last of all.

A new repository is private until everything is in it. What broke off goes on with the same call: what is there is not sent again.
The token comes from where huggingface_hub keeps it, or from the environment; it is neither written nor shown.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
from huggingface_hub import HfApi, ModelInfo, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from efface.errors import InputError, RunError, first_line
from efface.files import changed, checksums, read_json, write_json
from efface.lm.adapters import ADAPTER, name_base
from efface.recipe.foreign import harmless_audit
from efface.release.export import RECORD as EXPORT
from efface.release.export import Export
from efface.report.card import base_name, hub_id, placeless
from efface.report.page import write_report
from efface.runs.folder import RECORD, is_run
from efface.runs.run import Run

MESSAGE = "Upload with efface"
#: commits of an upload, besides the first one of every repository
STARTED_BY = ("initial commit", MESSAGE)
ALWAYS = ".gitattributes"  # in every repository
PULL_REQUEST = "refs/pr/"


@dataclass(frozen=True)
class Parcel:
    """What is sent. files: bytes by name in the folder. base: its id on the hub; None: it is not there."""

    folder: Path
    files: dict[str, int]
    base: str | None

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(self.files.values())


@dataclass(frozen=True)
class Target:
    """Where it is sent. Raises InputError for what cannot be a repository, or does not go together."""

    repo: str
    private: bool = False
    revision: str | None = None
    create_pr: bool = False

    def __post_init__(self) -> None:
        try:
            validate_repo_id(self.repo)
            known = self.repo.count("/") == 1
        except ValueError:
            known = False
        if not known:
            raise InputError(f"push: expected a repository as user/name (letters, digits, '-', '_', '.'), got {self.repo!r}")
        if self.create_pr and self.revision:
            raise InputError("push: --create-pr asks for a pull request on the main branch; drop --revision")


@dataclass(frozen=True)
class Plan:
    """What a push will do. new: the repository is made. public: whoever wants reads it afterwards; revealed: only then."""

    parcel: Parcel
    target: Target
    new: bool
    public: bool
    revealed: bool


@contextmanager
def packed(what: Path) -> Iterator[Parcel]:
    """What of a run or an export is sent, while the context lasts. Raises RunError where it is not whole."""
    if (what / EXPORT).is_file():
        yield _export(what)
    elif is_run(what):
        with TemporaryDirectory() as folder:
            yield _run(Run(what), Path(folder))
    else:
        begun = (what.with_name(f"{what.name}.partial"), what.with_name(f"{what.name}.exporting"), what / ".partial")
        there = next((path for path in begun if path.is_dir()), None)
        unfinished = f"; {there} is unfinished: give its command again" if there else ""
        raise RunError(f"{what} is no finished run or export; expected a folder with a {RECORD} or {EXPORT}{unfinished}")


def _export(folder: Path) -> Parcel:
    record = read_json(folder / EXPORT, Export)
    if bad := changed(folder, record.files):
        raise RunError(f"{folder}: {bad} is missing or not what was exported; export it again")
    names = (*record.files, EXPORT)
    base = record.base if "/" in record.base else None
    return Parcel(folder, {name: (folder / name).stat().st_size for name in names}, base)


def _run(run: Run, folder: Path) -> Parcel:
    """The run in another folder, without places of this machine; the weights are linked."""
    record, audit, adapter = run.record, run.audit, run.folder / "adapter"
    if bad := changed(run.folder, record.files):
        raise RunError(f"{run.folder}: its adapter is not the one whose hash is in run.json ({bad})")
    if not (adapter / ADAPTER).is_file():
        raise RunError(f"{run.folder} holds no {adapter.name}/{ADAPTER}")
    hub = hub_id(adapter)
    (folder / adapter.name).mkdir()
    (folder / adapter.name / ADAPTER).symlink_to((adapter / ADAPTER).resolve())
    shutil.copyfile(adapter / "adapter_config.json", folder / adapter.name / "adapter_config.json")
    name_base(folder / adapter.name, hub)
    files = checksums(folder, (folder / adapter.name).iterdir())
    record = placeless(record, hub).model_copy(update={"files": files})
    settings = harmless_audit(record.recipe.model_copy(update={"audit": audit.settings}))[0]
    models = {**audit.models, "base": base_name(record, hub)}
    audit = audit.model_copy(update={"models": models, "settings": settings})
    write_json(folder / RECORD, record)
    write_json(folder / "audit.json", audit)
    write_report(folder, audit, record)
    return Parcel(folder, {path.relative_to(folder).as_posix(): path.stat().st_size for path in _files(folder)}, hub)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def look(parcel: Parcel, target: Target) -> Plan:
    """What pushing it there would do; nothing is changed. Raises an InputError in one line for what will not go."""
    with _told(target.repo):
        api = _api()
        user = api.whoami()
        try:
            there = api.model_info(target.repo)
        except RepositoryNotFoundError:
            _require_own(target, user)
            return Plan(parcel, target, True, not target.private, not target.private)
        if target.private and not there.private:
            raise InputError(f"push: {target.repo} is there and public; drop --private, or make it private on the hub first")
        if not target.create_pr and target.revision in (None, constants.DEFAULT_REVISION):
            _require_free(target.repo, there, parcel)
        revealed = bool(there.private) and not target.private and not target.create_pr and _begun(api, target.repo, there)
    return Plan(parcel, target, False, revealed or not there.private, revealed)


def _require_own(target: Target, user: dict[str, object]) -> None:
    """Raises InputError where no new repository can be made."""
    if target.create_pr or (target.revision or "").startswith(PULL_REQUEST):
        raise InputError(f"push: there is no repository {target.repo} to ask a pull request of")
    organisations = user.get("orgs")
    names = [of.get("name") for of in (user, *(organisations if isinstance(organisations, list) else ()))]
    if target.repo.split("/")[0] not in names:
        raise InputError(
            f"push: your token is of {names[0]}, which cannot make {target.repo}; expected {names[0]}/{target.repo.split('/')[1]}"
        )


def _require_free(repo: str, there: ModelInfo, parcel: Parcel) -> None:
    """Raises InputError for a repository of something else. What efface pushed has its record, or a part of these files."""
    names = {of.rfilename for of in there.siblings or ()} - {ALWAYS}
    if not names & {RECORD, EXPORT} and (others := sorted(names - set(parcel.files))):
        raise InputError(
            f"push: {repo} is taken, it holds something else ({others[0]}); name another, "
            "or put it on a branch with --revision, or ask with --create-pr"
        )


def _begun(api: HfApi, repo: str, there: ModelInfo) -> bool:
    """Whether a push began this repository and is not done. One that is whole is private because somebody wants it so."""
    whole = {of.rfilename for of in there.siblings or ()} & {RECORD, EXPORT}
    return not whole and all(of.title.startswith(STARTED_BY) for of in api.list_repo_commits(repo))


def send(plan: Plan) -> str:
    """Do it. Returns the address. Raises an InputError in one line; then nothing new is public."""
    target, begun = plan.target, ""
    try:
        with _told(target.repo):
            api = _api()
            if plan.new:
                api.create_repo(target.repo, private=True)
                begun = f"; {target.repo} is private and not whole: the same command goes on"
            if target.revision and not target.revision.startswith(PULL_REQUEST):
                api.create_branch(target.repo, branch=target.revision, exist_ok=True)
            done = api.upload_folder(
                repo_id=target.repo,
                folder_path=plan.parcel.folder,
                allow_patterns=list(plan.parcel.files),
                commit_message=MESSAGE,
                revision=target.revision,
                create_pr=target.create_pr,
            )
            begun = f"; {target.repo} is whole and still private: make it public on the hub" if plan.revealed else ""
            if plan.revealed:
                api.update_repo_settings(target.repo, private=False)
    except InputError as error:
        raise InputError(f"{error}{begun}") from None
    return done.pr_url or f"{constants.ENDPOINT}/{target.repo}{f'/tree/{target.revision}' if target.revision else ''}"


def _api() -> HfApi:
    from efface import __version__

    return HfApi(library_name="efface", library_version=__version__)


LOG_IN = "log in with 'hf auth login', or set HF_TOKEN"
#: what the hub's own word is put behind
MEANS = {
    401: f"the hub does not know this token; {LOG_IN}",
    403: "this token may not write to {}",
    404: "the hub has no {}, or no such revision of it, for this token",
    409: "{} is taken",
    413: "the hub has no room for this in {}",
    429: "the hub wants a pause; try again later",
}


@contextmanager
def _told(repo: str) -> Iterator[None]:
    """Whatever is wrong with the hub, the way there or the token becomes an InputError, in which no token stands."""
    try:
        yield
    except InputError:
        raise
    except LocalTokenNotFoundError:
        raise InputError(f"push: no token for the hub; {LOG_IN}") from None
    except OfflineModeIsEnabled:
        raise InputError("push: HF_HUB_OFFLINE is set; unset it to upload") from None
    except HfHubHTTPError as error:
        code = error.response.status_code
        means = MEANS.get(code, f"the hub answered {code}").format(repo)
        raise InputError(f"push: {_tokenless(f'{means}: {error.server_message}' if error.server_message else means)}") from None
    except (httpx2.HTTPError, OSError) as error:
        raise InputError(f"push: cannot reach {constants.ENDPOINT}: {_tokenless(first_line(error))}") from None
    except UnicodeEncodeError:
        raise InputError(f"push: the token has a character that none has; {LOG_IN}") from None
    except (ValueError, RuntimeError) as error:  # an answer that is none, an upload that broke off
        raise InputError(f"push: {constants.ENDPOINT}: {_tokenless(first_line(error))}") from None


def _tokenless(said: str) -> str:
    token = get_token()
    return " ".join((said.replace(token, "[token]") if token else said).split())
