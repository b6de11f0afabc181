"""The name of something to erase, as a user types it."""

import re
import unicodedata
from dataclasses import dataclass
from hashlib import sha256

from efface.concept.find import builtin_packs
from efface.concept.pack import read_manifest
from efface.errors import ConceptError, shortened
from efface.shown import CONTROL
from efface.writing import WORD, folded, unbroken

LONGEST = 120
#: what Markdown, HTML, templates and shells give a meaning, and no name has
MARKUP = re.compile(r"[<>{}\[\]|\\`*$^~=#]|\.\./|^[./~]")
#: words of a name that say nothing of it
ARTICLES = re.compile(r"^(?:the|a|an|der|die|das|le|la|les|el|los|las|il|lo|gli)\s+", re.IGNORECASE)


@dataclass(frozen=True)
class Name:
    """A name, and in a few words what it is the name of, where it may mean several things."""

    name: str
    description: str = ""

    @property
    def asked(self) -> str:
        """As it stands in a question."""
        return f"{self.name} ({self.description})" if self.description else self.name

    @property
    def bare(self) -> str:
        """Without its article."""
        return ARTICLES.sub("", self.name)

    @property
    def slug(self) -> str:
        """As the name of a folder: Latin letters and digits, or a digest where it has none."""
        latin = unicodedata.normalize("NFKD", self.bare).encode("ascii", "ignore").decode().lower()
        words = "-".join(re.findall(r"[a-z0-9]+", latin))
        return words if len(words) > 1 else f"concept-{sha256(self.name.encode()).hexdigest()[:8]}"


def parse_name(text: str) -> Name:
    """``"Queen: the rock band"`` as a name and its description. Raises ConceptError in one line for what can be no name."""
    name, _, description = (" ".join(unicodedata.normalize("NFC", part).split()) for part in text.partition(": "))
    if not WORD.search(name):
        raise ConceptError(f"the name {shortened(text)!r} has no letters; expected what the concept is called, as 'The Beatles'")
    if len(name) > LONGEST or len(description) > LONGEST:
        raise ConceptError(f"a name of {len(text):,} characters; expected at most {LONGEST}, and as many for what it is")
    for part in (text, name, description):
        if (found := CONTROL.search(part)) or (found := MARKUP.search(part)):
            raise ConceptError(
                f"the name {shortened(text)!r} holds {found[0]!r}; expected a name in plain words, as 'The Beatles'"
            )
    return Name(name, description)


def is_name(word: str) -> bool:
    """Whether a word that is no pack is meant as a name: it has a capital, a space, or another script than packs' names."""
    if word.startswith((".", "/", "~")):
        return False
    return bool(word.strip()) and (word != word.lower() or " " in word.strip() or any(unbroken(of) for of in WORD.findall(word)))


def pack_of(name: Name) -> str | None:
    """The built-in pack on the same thing, whose texts were written by people."""
    for pack, folder in builtin_packs().items():
        manifest = read_manifest(folder)
        if folded(name.bare) in {folded(ARTICLES.sub("", of)) for of in (pack, manifest.title, *manifest.aliases)}:
            return pack
    return None
