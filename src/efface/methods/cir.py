"""CIR, collapse of irrelevant representations (Sondej et al., arXiv 2509.11816): an update without its general directions.

``E ReLU(f(token) . f_base(token)) / (E ||f_base||)^2``, f: what a trained layer adds to the states. The update of a linear module
may not read the mean and the first principal components of its inputs, nor write those of the gradients at its outputs. A text's
first token, whose states are hundreds of times as long as others' in many models, takes part in nothing.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from peft import PeftModel
from peft.tuners.ln_tuning.layer import LNTuningLayer
from peft.tuners.lora import LoraLayer
from pydantic import Field
from torch import Tensor, nn

from efface.data.batches import Example, next_token_example
from efface.data.corpora import Corpora
from efface.data.store import Store
from efface.data.text import Text
from efface.errors import InputError
from efface.lm.load import Loaded
from efface.methods.method import Method, Seen, look
from efface.processes import from_first
from efface.recipe.settings import Settings


class CIR(Method):
    """Breaks what the layers say about the forget texts; the directions that all texts share are left alone.

    The paper reads the MLPs' outputs; here it is the whole layer's, which every architecture has.
    """

    class Options(Settings):
        """The numbers of components are those of the authors' code."""

        inputs: int = Field(24, ge=0, description="Principal components of the inputs that are projected out, besides the mean.")
        gradients: int = Field(36, ge=0, description="The same of the gradients at the outputs.")
        batches: int = Field(8, gt=0, description="Batches of forget texts that they are taken from.")

    recipe_defaults: ClassVar = {"erase": {"weight": 10.0}}

    def examples(self, loaded: Loaded, corpora: Corpora, store: Store) -> Sequence[Example]:
        """The forget texts from their second token on."""
        return [next_token_example(Text(text.ids, max(text.start, min(2, len(text.ids) - 1)))) for text in corpora.texts.forget]

    def layers(self, model: nn.Module) -> Sequence[int]:
        """The trained ones and those below them."""
        wanted = sorted({layer - low for layer in self.adapted(model) if layer > 0 for low in (0, 1)})
        if not wanted:
            raise InputError("method cir: expected a layer other than the first in lora.layers")
        return wanted

    def erase(self, seen: Seen) -> Tensor:
        """The formula above, mean over the layers."""
        base, numbers = seen.base(), list(seen.layers)
        pairs = [(low, high) for low, high in pairwise(numbers) if high == low + 1]
        terms = [breaking(seen.layers[high] - seen.layers[low], base[high] - base[low]) for low, high in pairs]
        return torch.stack([seen.mean(term) for term in terms]).mean()

    def constrain(self, model: PeftModel, batches: Callable[[], Any]) -> Callable[[], None] | None:
        """Measure the directions on forget texts, then keep the update out of them after every step."""
        if not self.recipe.erase.weight:
            return None
        inputs, gradients = self._watch(model, batches)
        with torch.random.fork_rng():
            torch.manual_seed(self.recipe.seed)
            read, written = self.options.inputs, self.options.gradients
            bases = {name: (directions(inputs[name], read), directions(gradients[name], written)) for name in gradients}
        for pair in bases.values():
            for basis in pair:
                from_first(basis)  # every process has looked at other texts

        def project() -> None:
            for name, (read, written) in bases.items():
                project_out(model.get_submodule(name), read, written)

        project()
        return project

    def _watch(self, model: PeftModel, batches: Callable[[], Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Inputs of every trained module and gradients at its outputs ``[tokens, size]``, over some forget texts."""
        seen: dict[str, list[Tensor]] = {}
        pulled: dict[str, list[Tensor]] = {}
        mask = torch.empty(0)

        def tokens(states: Tensor) -> Tensor:
            """``[tokens, size]`` of a padded batch or of one without padding: neither padding nor a text's first token."""
            wanted = mask.bool() & (mask.cumsum(1) > 1)
            rows = states.float().flatten(0, -2)
            return rows[(wanted if len(rows) == wanted.numel() else wanted[mask.bool()]).flatten().to(rows.device)]

        def keep(name: str) -> Callable[..., None]:
            def hook(_: nn.Module, entering: tuple[Tensor, ...], leaving: Tensor) -> None:
                if leaving.requires_grad:  # not the frozen model's pass
                    seen.setdefault(name, []).append(tokens(entering[0].detach()))
                    pulled.setdefault(name, [])
                    leaving.register_hook(lambda gradient: pulled[name].append(tokens(gradient)))  # type: ignore[no-untyped-call]

            return hook

        trained = {name: module for name, module in model.named_modules() if isinstance(module, (LoraLayer, LNTuningLayer))}
        hooks = [module.register_forward_hook(keep(name)) for name, module in trained.items()]
        try:
            for batch, _ in zip(batches(), range(self.options.batches), strict=False):
                texts = int(batch["erase"]["rows"].max()) + 1  # they stand first
                some = {"erase": batch["erase"], **{name: batch[name][:texts] for name in ("input_ids", "attention_mask")}}
                mask = some["attention_mask"]
                torch.autograd.backward(self.erase(look(model, some, self.layers(model))["erase"]))
        finally:
            for hook in hooks:
                hook.remove()
            model.zero_grad()
        return {name: torch.cat(of) for name, of in seen.items()}, {name: torch.cat(of) for name, of in pulled.items()}


def breaking(added: Tensor, base: Tensor) -> Tensor:
    """Product of what a layer adds now and what it added ``[n, size]``, over their squared mean length: ``[n]``, not below 0."""
    added, base = added.float(), base.float()
    broken: Tensor = (added * base).sum(-1).relu() / base.norm(dim=-1).mean().square()
    return broken


def directions(vectors: Tensor, components: int) -> Tensor:
    """Orthonormal columns ``[size, 1 + components]`` that span the mean and the first principal components of ``[n, size]``."""
    mean = vectors.mean(0, keepdim=True)
    components = min(components, len(vectors), vectors.shape[1] // 2)  # of a small layer something must be left
    found = torch.pca_lowrank(vectors, components)[2].T if components else mean[:0]
    columns: Tensor = torch.linalg.qr(torch.cat([mean, found]).T)[0]
    return columns


@torch.no_grad()
def project_out(module: nn.Module, read: Tensor, written: Tensor) -> None:
    """Take these directions out of a module's update: those it reads ``[in, k]`` and those it writes ``[out, k]``."""
    if isinstance(module, LoraLayer):
        for down, up in zip(module.lora_A.values(), module.lora_B.values(), strict=True):
            down.weight -= down.weight @ read @ read.T
            up.weight -= written @ (written.T @ up.weight)
    elif isinstance(module, LNTuningLayer):
        for copy in module.ln_tuning_layers.values():
            before = module.base_layer.weight.float()
            update = copy.weight - before
            if not isinstance(copy, nn.Linear):  # GPT-2 keeps its weights the other way round
                read, written = written, read
            update -= update @ read @ read.T
            update -= written @ (written.T @ update)
            copy.weight.copy_(before + update)
