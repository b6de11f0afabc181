"""An attack of your own: efface audit RUN --attacks examples/my_attack.py

What does noise on the weights bring back? The questions, base and erased model beside each other, intervals, page, card and cache
are those of efface; an attack says what is done to a model.
"""

from dataclasses import replace

import torch

from efface.attacks.attack import Attacked, Measure
from efface.attacks.relearning import release
from efface.auditing.subject import Subject
from efface.lm.layers import linear_modules

#: of the standard deviation of each matrix
NOISE = (0.03, 0.1)


@torch.no_grad()
def attack(subject: Subject, measure: Measure) -> None:
    """Make attacked subjects, and have each measured at once; the subject itself stays what it is."""
    for share in NOISE:
        noisy, generator = release(subject.model), torch.Generator().manual_seed(0)  # a copy, its adapter merged
        for name in linear_modules(noisy):
            weight = noisy.get_submodule(name).weight
            noise = torch.randn(weight.shape, generator=generator).to(weight)
            weight.add_(share * weight.float().std() * noise)
        measure(Attacked(replace(subject, model=noisy, other_base=None), f"noise {share:g}"))
