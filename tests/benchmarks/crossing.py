"""What it costs that a player is in a process of its own: processor time of a scoring there and here, in one run.

    python tests/benchmarks/crossing.py RUN [adaptor.use=none ...]

Of the run's artifact under its record. There it is what both processes take, without the start of the one that players
are forked from.
"""

import sys
import tempfile
import time
from pathlib import Path

import torch

from golfzoo.engine.artifact import decode_model
from golfzoo.engine.distributed import World
from golfzoo.engine.evaluate import evaluate, play
from golfzoo.engine.model import load_weights
from golfzoo.engine.setup import set_up
from golfzoo.record import load_record
from golfzoo.verify.referee import open_texts
from golfzoo.verify.remote import Nursery
from golfzoo.verify.scene import Scene
from golfzoo.verify.subject import code_folders, read_subject
from golfzoo.zoo import discover


def there(scene: Scene) -> float:
    begun = time.process_time()
    with scene.player(scene.plan.eval) as player:
        play(player, scene.text, scene.plan.eval, scene.world, scene.plan.train.seed)
    return time.process_time() - begun + player.seconds


def main(folder: Path, overrides: tuple[str, ...]) -> None:
    torch.set_num_threads(1)
    zoo, alone = discover(), World(0, 1, torch.device("cpu"), bf16=False)
    subject = read_subject(folder, zoo)
    record = load_record(str(folder / "record.toml"), zoo, overrides)
    object.__setattr__(subject, "tables", record.tables)
    object.__setattr__(subject, "targets", record.targets)
    text, _ = open_texts(subject, zoo)
    scene = Scene(subject, text, alone, None, exact=True, seed=0)  # type: ignore[arg-type]
    components, plan = record.bind(), scene.plan
    setup = set_up(plan, components, alone)
    artifact = decode_model(subject.artifact.read_bytes(), components, setup.model, "artifact.golf")
    load_weights(setup.model.module, artifact, "artifact.golf")
    with tempfile.TemporaryDirectory() as place:
        scene.nursery = Nursery(Path(place), code_folders(scene.subject))
        for _ in range(5):
            begun = time.process_time()
            evaluate(setup.model.module, text, plan.eval, alone, components.adaptor, plan.train.seed)
            here = time.process_time() - begun
            away = there(scene)
            print(f"here {here:.2f} s, there {away:.2f} s of processor time: {away / here:.3f} times")
        scene.nursery.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), tuple(sys.argv[2:]))
