"""What stands between the referee's play and a player, to see more of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from golfzoo.engine.data import ValidationText
from golfzoo.verify.remote import RemotePlayer
from golfzoo.verify.scene import other_tokens

if TYPE_CHECKING:
    from golfzoo.engine.protocols import Windowing

STRANGERS = 0.5
"""Of windows, how many are changed wholly, because what one holds another may have told."""
_ASKED = 2**16  # windows of a text, about


class Between:
    """A player, as it is."""

    def __init__(self, player: RemotePlayer) -> None:
        self.player = player

    def __getattr__(self, name: str) -> Any:
        return getattr(self.player, name)


class Deaf(Between):
    """A player that is told no target, and so can learn nothing."""

    def reveal(self, *given: Any) -> None:
        pass

    def review(self, *given: Any) -> None:
        pass


class Doubts:
    """Asks first what a player would say if a window went on otherwise from some position on, among those that are
    scored, while half of the windows beside it are others; and then what it says. Up to that position it is to say the
    same, whatever it has learned. It does not know of the second question when it answers the first; and what it says
    then is what is played, and held against what it said before it was asked anything twice.

    worst, compared   nats by which a probability has changed at most, of how many distributions
    """

    def __init__(self, windowing: Windowing, text: ValidationText, rng: np.random.Generator) -> None:
        self.stride, self.vocab_size, self.rng = windowing.stride, text.tokenizer.vocab_size, rng
        self.share = _ASKED * windowing.stride / text.num_targets
        self.worst, self.compared = 0.0, 0

    def of(self, player: RemotePlayer) -> Doubter:
        return Doubter(player, self)

    def predict(self, player: RemotePlayer, input_ids: Tensor, learns: bool) -> Tensor:
        if self.rng.random() > self.share:
            return player.predict(input_ids, learns)
        ids, columns = input_ids.numpy(), np.arange(input_ids.shape[1])
        lengths = len(columns) - (ids[:, ::-1] != 0).argmax(axis=1)  # but for a token 0 at the end, of the text's own
        first_scored = np.maximum(lengths - self.stride, 0)
        cuts = self.rng.integers(first_scored, lengths)
        if len(ids) > 1:
            cuts[self.rng.random(len(ids)) < STRANGERS] = -1
        changed = other_tokens(ids, columns > cuts[:, None], self.vocab_size, self.rng)
        before = player.predict(torch.from_numpy(changed), learns)
        played = player.predict(input_ids, learns)
        kept = torch.from_numpy((columns >= first_scored[:, None]) & (columns <= cuts[:, None]))
        apart = before[kept].log_softmax(-1) - played[kept].log_softmax(-1)
        self.worst = max(self.worst, float(apart.abs().max()) if apart.numel() else 0.0)
        self.compared += len(apart)
        return played


class Doubter(Between):
    def __init__(self, player: RemotePlayer, doubts: Doubts) -> None:
        super().__init__(player)
        self.doubts = doubts

    def predict(self, input_ids: Tensor, learns: bool = False) -> Tensor:
        return self.doubts.predict(self.player, input_ids, learns)
