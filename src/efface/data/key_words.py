"""Which tokens and words belong to the concept: *keyness*, the log ratio of their frequencies in forget and retain texts.

Source of the term: corpus linguistics (a word that is more frequent in one corpus than in a reference corpus is a *keyword*).
"""

from collections.abc import Sequence

import regex
import torch
from torch import Tensor

from efface.data.text import Text

#: from which keyness on a token or word belongs to the concept: e^3 times as frequent in the forget texts
KEY = 3.0
_NAMED = r"\p{Lu}[\w\p{N}’'-]*[\w\p{N}]"
#: capitalised words in a row, not at the start of a sentence
NAME = regex.compile(rf"(?<![.!?:] )(?<!^)\b{_NAMED}(?: (?:of (?:the )?)?{_NAMED})*", regex.V1)


def keyness(forget: Sequence[Text], retain: Sequence[Text], vocab: int) -> Tensor:
    """Log ratio ``[vocab]`` of every token's frequency in the forget texts and in the retain texts; 0 where it is negative.

    Frequencies are smoothed by a tenth of an occurrence; a token that comes up only once in the forget texts has 0.
    """
    often, rarely = (
        torch.bincount(torch.tensor([token for text in texts for token in text.ids[text.start :]]), minlength=vocab).double()
        for texts in (forget, retain)
    )
    ratio = ((often + 0.1) / often.sum()).log() - ((rarely + 0.1) / rarely.sum()).log()
    return ratio.clamp(min=0).where(often > 1, 0.0).float()
