"""Methods of erasure, by name. To add one: a file here with a class like :class:`Method`, and a line below."""

from efface.methods.elm import ELM
from efface.methods.method import Method

METHODS: dict[str, type[Method]] = {"elm": ELM}
