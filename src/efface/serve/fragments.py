"""A conversation as HTML: nothing that a model, a visitor or a pack wrote is markup, nor a template of gradio's."""

from collections.abc import Sequence

from markupsafe import Markup, escape

from efface.serve.stage import Turn
from efface.shown import for_terminal

#: gradio fills in ``${…}``, ``{{…}}`` and ``@children`` in what it shows
TEMPLATES = str.maketrans({character: f"&#{ord(character)};" for character in "${}@`"})
WHO = {"base": "base", "erased": "erased", "guided": "base, erased at decoding time"}
CSS = """
.talk { --far: 200, 85, 61; } .talk .who, .talk .note { opacity: .7; font-size: .9rem; }
.talk .asked { font-weight: 600; margin: 1.2rem 0 .4rem; overflow-wrap: anywhere; }
.talk .answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: .4rem 1.4rem; }
.talk .answers > * { min-width: 0; } .talk .answers p { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; }
.talk .answers p span { border-radius: .15rem; }
"""


def text(of: object) -> Markup:
    """Text as it is: nothing of it is markup."""
    return Markup(str(escape(for_terminal(of, lines=True))).translate(TEMPLATES))  # noqa: S704  (escaped just now)


def conversation(title: str, turns: Sequence[Turn]) -> Markup:
    """All turns, the answers to each beside each other, shaded where base and erased model differ."""
    legend = "Shaded: how far base and erased model differ on the next token there (total variation)."
    shown = Markup("").join(map(_turn, turns))
    return Markup('<div class="talk"><p class="who">{}. {}</p>{}</div>').format(text(title), legend, shown)


def _turn(turn: Turn) -> Markup:
    answers = Markup("").join(
        Markup('<div class="{}"><span class="who">{}</span><p>{}</p></div>').format(name, WHO[name], _answer(turn, name))
        for name in turn.said
    )
    note = Markup('<p class="note">{}</p>').format(text(turn.note)) if turn.note else ""
    return Markup('<p class="asked">{}</p><div class="answers">{}</div>{}').format(text(turn.question), answers, note)


def _answer(turn: Turn, name: str) -> Markup:
    if not turn.pieces.get(name):
        return text(turn.said[name].strip())
    return Markup("").join(
        Markup('<span style="background:rgba(var(--far),{:.2f})">{}</span>').format(0.6 * far, text(piece))
        for piece, far in turn.pieces[name]
    )
