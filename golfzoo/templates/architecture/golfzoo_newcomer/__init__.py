"""A language model of causal convolutions: no attention, and no positions."""

from golfzoo import Component, Config, hookimpl, option


class NewcomerConfig(Config):
    num_layers: int = option(8, "blocks, one behind the other", ge=1)
    model_dim: int = option(512, "width of the residual stream", ge=1)
    reach: int = option(8, "tokens that a block mixes: the one it is at, and those before it", ge=1)
    mlp_mult: int = option(3, "what a block computes in, as a multiple of model_dim", ge=1)


@hookimpl
def golfzoo_architectures():
    return [
        Component(
            kind="architecture",
            name="newcomer",
            config=NewcomerConfig,
            target="golfzoo_newcomer.architecture:Newcomer",
            small={"num_layers": 3, "model_dim": 128},
            summary="causal convolutions over the last tokens, and an MLP in each block",
        )
    ]
