"""The settings of an erasure by section: low-rank update, the three terms, texts, training, audit. Each stands here once."""

from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from efface.shown import on_one_line

MAX_SEED = 2**32 - 1  # numpy takes no larger one


class Settings(BaseModel):
    """Base of all settings: frozen; an error are an unknown name, a number that JSON cannot hold, and a text of several lines."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _texts_are_lines(cls, value: Any) -> Any:
        return on_one_line(value)


class LoraSettings(Settings):
    """The low-rank update (the only weights that are trained)."""

    rank: int = Field(16, ge=0, description="Rank r of the update; 0: train the modules' full weights.")
    alpha: float = Field(16.0, gt=0, description="Scale: the update is multiplied by alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the adapter's input.")
    layers: str = Field(
        "0%-57%",
        description="Decoder layers with an adapter, counted from 0: 'all', '4-7,12', or a share of the depth, '0%-57%'.",
    )
    modules: str = Field(
        "all", description="Linear modules of these layers: 'all' or names separated by commas ('q_proj,v_proj')."
    )


class EraseSettings(Settings):
    """The erase term: cross-entropy to what the teacher would say if it had never met the concept."""

    weight: float = Field(2.5, ge=0, description="Weight of the erase term (lambda 1 of the paper).")
    target: Literal["stranger", "marginal", "tilted", "mixed"] = Field(
        "marginal",
        description="stranger: what the teacher predicts where the concept's words are exchanged for invented ones; marginal: "
        "its mean prediction on the retain texts, whatever the text; tilted: moved from expert to novice (the paper); "
        "mixed: both.",
    )
    action: Literal["erase", "enhance", "random"] = Field(
        "erase", description="Tilt away from the concept, towards it, or train on a random target (control)."
    )
    eta: float = Field(1000.0, ge=0, description="Strength of the tilt.")
    schedule: Literal["constant", "ramp"] = Field(
        "ramp", description="eta at every position, or rising from 1 to eta over the positions of a text."
    )
    temperature: float = Field(1.0, gt=0, description="Temperature of all teacher log-probabilities before the tilt.")
    top_k: int | None = Field(50, gt=0, description="Keep the k likeliest tokens after the tilt; None: the whole vocabulary.")
    personas: int = Field(1, gt=0, description="Persona pairs drawn for each text; their log-probabilities are averaged.")
    marginal: float = Field(1.0, ge=0, le=1, description="Share of the mean prediction in target mixed.")
    keyness: float = Field(
        1.0,
        ge=0,
        description="How much more the concept's own words count: a token's loss is weighted by the log ratio of its frequencies "
        "in forget and retain texts (0.2 to 4) to this power, over the mean of all; 0: all alike.",
    )

    @model_validator(mode="after")
    def _actions_are_tilts(self) -> "EraseSettings":
        if self.action != "erase" and self.target in ("stranger", "marginal"):
            raise ValueError(f"action {self.action} needs target tilted, got {self.target}")
        return self


#: settings of the tilted target
TILT = ("eta", "schedule", "temperature", "top_k", "personas")


class RetainSettings(Settings):
    """The retain term: cross-entropy to the teacher on everything else."""

    weight: float = Field(14.0, ge=0, description="Weight of the retain term (lambda 2 of the paper).")
    ratio: int = Field(2, gt=0, description="Retain texts for each forget text of a batch.")
    target: Literal["soft", "hard"] = Field("soft", description="The teacher's distribution, or only its likeliest token.")


class FluencySettings(Settings):
    """The fluency term: cross-entropy on texts that say something about the concept as one who does not know it would."""

    weight: float = Field(3.0, ge=0, description="Weight of the fluency term (lambda 3 of the paper).")
    source: Literal["strangers", "tilted"] = Field(
        "tilted",
        description="strangers: what the teacher answers to questions in which the concept's words are exchanged for invented "
        "ones, the words put back; tilted: sampled from the tilted teacher.",
    )
    target: Literal["soft", "hard"] = Field(
        "soft", description="The whole erased distribution, before temperature, or only the sampled token."
    )
    ratio: int = Field(2, gt=0, description="Fluency texts for each forget text of a batch.")
    texts: int = Field(192, ge=0, description="Number of sampled texts.")
    tokens: int = Field(96, gt=0, description="Tokens sampled for each text.")
    eta: float | None = Field(6.0, ge=0, description="Strength of the tilt while sampling; None: eta of the erase term.")
    min_p: float = Field(0.05, ge=0, lt=1, description="Sample only tokens this likely relative to the base's best one; 0: all.")
    temperature: float = Field(0.7, gt=0, description="Temperature of sampling, after the tilt.")
    no_repeat: int = Field(4, ge=0, description="Never sample the same so many tokens in a row twice in a text; 0: may happen.")
    keyness: float = Field(
        1.0,
        ge=0,
        description="How many times the log ratio of a token's frequency in forget and retain texts is taken off its logit while "
        "sampling; not off tokens of the prompt, nor where it is negative.",
    )
    brief: int = Field(
        24,
        ge=0,
        description="An answer in chat format ends with the first sentence that is over after so many tokens; 0: where the model "
        "ends it. Source strangers: any answer, and how surely it ends there is the teacher's.",
    )
    questions: float = Field(0.5, ge=0, le=1, description="Share of prompts that are questions about the concept's topics.")
    cloze: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of the others that are sentences broken off before a word of the concept, as they stand or with the "
        "request to complete them; what is left, or all if there are no such sentences, are passages cut anywhere.",
    )


class PublishedSettings(Settings):
    """What only the two published forms of the method do (presets paper and reference), with tilted targets and texts."""

    float64: bool = Field(False, description="Compute the tilt of the erase target in double precision.")
    sees_prompt: bool = Field(
        True, description="Whether the persona streams see the prompt of a fluency text, or only what was sampled."
    )
    deflection: bool = Field(False, description="Put a sentence that changes the subject between prompt and sampled text.")
    train_deflection: bool = Field(False, description="Train on that sentence too, not only on the sampled tokens.")


class DataSettings(Settings):
    """Which texts are used and how they are presented."""

    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of everything prepared: presentation, personas, sampled texts.")
    forget_texts: int | None = Field(None, gt=0, description="Use at most so many forget texts; None: all.")
    retain_texts: int | None = Field(None, gt=0, description="Use at most so many retain texts; None: all.")
    min_chars: int = Field(
        50,
        ge=0,
        description="A text shorter than this is an error in the pack; of a data set or file that it names it is left out.",
    )
    max_chars: int = Field(700, gt=0, description="A text is cut to so many characters.")
    max_tokens: int = Field(128, gt=1, description="A text is cut to so many tokens.")
    chat: float = Field(
        0.4, ge=0, le=1, description="Share of retain texts shown as an answer in the model's chat format, if it has one."
    )
    forms: int = Field(
        0,
        ge=0,
        description="In how many forms each forget passage is shown: as it stands, behind other text, as question and answer, in "
        "chat with the answer begun; retain passages likewise, and as free answers. 0: as passages only.",
    )
    mentioned: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of retain passages that stand behind a text that mentions the concept, for that changes nothing.",
    )
    kept: int = Field(0, ge=0, description="Answers of the teacher about other things among the retain texts.")
    quiz: float = Field(
        0.25,
        ge=0,
        le=1,
        description="Share of the questions about strangers and other things that the teacher writes itself, as in a quiz; "
        "the others are made from templates.",
    )
    neighbours: int = Field(
        0,
        ge=0,
        description="Passages that the teacher writes about neighbours of the concept, where the retain texts have none near it.",
    )
    forget_chat: float = Field(0.0, ge=0, le=1, description="The same share of forget texts.")
    store_top_k: int = Field(
        128, gt=0, description="Tokens kept for each stored target; the mass of the others is kept as one number."
    )


class TrainSettings(Settings):
    """Optimisation: handed to transformers.Trainer."""

    steps: int = Field(60, gt=0, description="Optimiser steps.")
    tokens: int | None = Field(None, gt=0, description="Train on so many target tokens instead of so many steps.")
    batch_size: int = Field(4, gt=0, description="Forget texts in one forward pass; retain and fluency texts by their ratio.")
    checkpointing: bool = Field(False, description="Compute activations again in the backward pass: less memory, more time.")
    accumulation: int = Field(1, gt=0, description="Forward passes for each optimiser step.")
    lr: float = Field(5e-3, gt=0, description="Peak learning rate of AdamW.")
    schedule: Literal["linear", "cosine", "constant"] = Field("linear", description="Learning-rate schedule.")
    warmup_steps: int = Field(3, ge=0, description="Steps of linear warm-up.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay.")
    clip: float = Field(1.0, ge=0, description="Largest gradient norm; 0: no clipping.")
    checkpoint_steps: int = Field(16, gt=0, description="Write a checkpoint (to resume from) every so many steps.")


#: settings of an audit that decide one of its attacks, by its name
SIZES = {
    "relearn": ("relearn_texts", "relearn_steps", "relearn_lr", "relearn_seeds"),
    "relearn_all": ("relearn_texts", "relearn_steps", "relearn_seeds"),
    "leak": ("leak_answers",),
    "beast": ("suffix_questions", "beast_beams", "beast_tokens"),
    "gcg": ("suffix_questions", "gcg_candidates", "gcg_steps"),
}


class AuditSettings(Settings):
    """What is measured on base and erased model besides the pack's own questions."""

    tasks: tuple[str, ...] = Field((), description="Tasks of the lm-evaluation-harness by name: wmdp_bio, mmlu, …")
    task_folder: str | None = Field(None, description="Folder with task files of your own for the harness.")
    fewshot: int = Field(0, ge=0, description="Solved examples before each question of these tasks.")
    chat: bool = Field(False, description="Ask these tasks in the model's chat format.")
    limit: int | None = Field(None, gt=0, description="At most so many questions of each task; None: all.")
    samples: int = Field(8, ge=0, description="Sampled answers to each open question (leak@k); 0: only the greedy one.")
    judge: str | None = Field(None, description="Model that judges how the answers read (perplexity); None: the base.")
    depth: bool = Field(True, description="Probe what the layers still hold.")
    attacks: tuple[str, ...] = Field(
        (), description="Attacks on both models: names (docs/attacks.md), fast, all, or Python files of your own (they are run)."
    )
    relearn_texts: int = Field(10, gt=0, description="Passages that the relearning attack trains on.")
    relearn_steps: int = Field(25, ge=0, description="Steps that it trains for, measured along the way.")
    relearn_lr: float = Field(1e-3, gt=0, description="Its learning rate.")
    relearn_seeds: int = Field(1, gt=0, description="Choices of passages that it tries: one evenly drawn, the others at random.")
    leak_answers: int = Field(32, gt=0, description="Sampled answers to each open question in the leak attack.")
    suffix_questions: int = Field(4, gt=0, description="Tune questions that the suffixes of beast and gcg are made on.")
    beast_beams: int = Field(8, gt=0, description="Suffixes that beast keeps in every step, and tokens it tries behind each.")
    beast_tokens: int = Field(20, gt=0, description="Tokens of its suffix, and steps.")
    gcg_candidates: int = Field(64, gt=0, description="Exchanges that gcg tries in every step.")
    gcg_steps: int = Field(25, gt=0, description="Steps that it takes.")
    scorers: tuple[str, ...] = Field((), description="Python files with scorers of your own (they are run).")
    endpoint: str | None = Field(
        None, description="URL of an OpenAI-compatible server whose model scores the answers; its key: $EFFACE_JUDGE_KEY."
    )
    endpoint_model: str = Field("default", description="Name of the model at that server.")

    @field_validator("attacks")
    @classmethod
    def _split_at_commas(cls, named: tuple[str, ...]) -> tuple[str, ...]:
        """``relearn,prompts`` as two; a file's name may hold commas."""
        return tuple(name for given in named for name in ([given] if given.endswith(".py") else given.split(",")) if name)

    @model_validator(mode="after")
    def _endpoint_holds_no_secret(self) -> "AuditSettings":
        if (url := urlsplit(self.endpoint or "")).query or "@" in url.netloc:
            raise ValueError("endpoint: expected a URL without user, password and query; its key goes into $EFFACE_JUDGE_KEY")
        return self
