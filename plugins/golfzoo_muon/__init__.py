"""Muon for the matrices, Adam for everything else: the baseline's optimizer."""

from typing import Literal

from golfzoo import Component, Config, hookimpl, option


class MuonConfig(Config):
    matrix_lr: float = option(0.04, "learning rate of the matrices (Muon)", ge=0)
    scalar_lr: float = option(0.04, "learning rate of the control parameters (Adam)", ge=0)
    tied_embed_lr: float = option(0.05, "learning rate of an embedding that is also the head (Adam)", ge=0)
    embed_lr: float = option(0.6, "learning rate of an embedding with a head of its own beside it (Adam)", ge=0)
    head_lr: float = option(0.008, "learning rate of an untied head (Adam)", ge=0)
    momentum: float = option(0.95, "Muon's momentum after its warm-up", ge=0, lt=1)
    momentum_warmup_start: float = option(0.85, "Muon's momentum in the first step", ge=0, lt=1)
    momentum_warmup_steps: int = option(500, "steps over which the momentum rises", ge=0)
    newton_schulz_steps: int = option(5, "iterations of the orthogonalization", ge=1)
    beta1: float = option(0.9, "Adam's first decay", ge=0, lt=1)
    beta2: float = option(0.95, "Adam's second decay", ge=0, lt=1)
    adam_eps: float = option(1e-8, "Adam's epsilon", gt=0)
    coefficients: Literal["quintic", "polar"] = option(
        "quintic", "of the orthogonalization: the same in every iteration, or those of Polar Express"
    )
    row_normalize: bool = option(False, "normalize the rows of what is orthogonalized first (MuonEq-R)")
    weight_decay: float = option(0.0, "decoupled weight decay of the matrices (Muon)", ge=0)
    decay_after_update: bool = option(False, "decay matrices after their update, not before it")
    adam_weight_decay: float = option(0.0, "decoupled weight decay of all others (AdamW)", ge=0)
    embed_weight_decay: float | None = option(None, "of embeddings; without it, as the others", ge=0)

    def check(self) -> None:
        if self.coefficients == "polar" and self.newton_schulz_steps > 5:
            raise ValueError(f"newton_schulz_steps ({self.newton_schulz_steps}): coefficients = polar has 5")


@hookimpl
def golfzoo_optimizers():
    return [
        Component(
            kind="optimizer",
            name="muon",
            config=MuonConfig,
            target="golfzoo_muon.optimizer:build",
            small={"matrix_lr": 0.02, "scalar_lr": 0.02, "tied_embed_lr": 0.025},
            summary="Muon on matrices, Adam on embedding, head and control parameters",
        )
    ]
