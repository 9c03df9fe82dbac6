"""Runs that are interrupted at random moments and resumed until they are through, again and again.

    python tests/benchmarks/interruptions.py [N] [--seed 0] [--out FOLDER]

Tiny runs, alone and as two processes, with int8, zlib and LoRA, and with a quantizer that calibrates and is fitted to a
number of bytes, take turns. Each is a `golfzoo run` of its own, as one types it, with --fresh; what interrupted it goes
on with --resume. A moment is either any of the seconds that the whole run takes, the imports too, or, three times out
of four, any of a stage that is drawn first, so that short stages are met as well. What comes then is one of

    SIGKILL              to the process; of two, to the launcher or to one of its processes
    SIGTERM, SIGINT      to the process; of two, to the launcher, or to all, as scancel and service managers send it

until N have come. A table says how many came in which stage, by the last event in metrics.jsonl. A failure is a run
that goes on in spite of it, does not end within a minute, ends with another status than it should, leaves a result that
does not say so, prints a traceback, leaves a process behind, cannot be resumed, or finishes with a weights.safetensors,
an artifact.golf, a score or an event of training that one that was left alone does not have. Failures are printed with
all output of their run; any makes the status 1.
"""

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from conftest import build_tiny_dataset
from test_resume import SLOW_RECORD, assert_same

PLAIN = SLOW_RECORD.replace('use = "none"', 'use = "lora"')
FITTED = (
    SLOW_RECORD.replace('use = "int8"', 'use = "gptq_trellis"\nhessian_tokens = 8192\nfisher_tokens = 8192')
    .replace("fisher_tokens = 8192", "fisher_tokens = 8192\ndamage_tokens = 512")
    .replace('use = "zlib"', 'use = "rans"')
    .__add__("\n[size]\nfit = true\nlimit_bytes = 56_000\n")
)
RECORDS = {"int8": PLAIN, "fitted": FITTED}
PATIENCE = 60.0
STILL_RUNNING = "another process is running this run"
# What a process ends with that has heard of a signal, and one that had not begun to listen.
STATUSES = {
    signal.SIGKILL: (-signal.SIGKILL,),
    signal.SIGTERM: (128 + signal.SIGTERM, -signal.SIGTERM),
    signal.SIGINT: (128 + signal.SIGINT, -signal.SIGINT),
}


class Failure(Exception):
    """What happened that should not."""


@dataclass
class Case:
    """A record and a number of processes; what a run that was left alone came to, in which stages and seconds."""

    name: str
    processes: int
    record: Path
    alone: Path
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)


class Attempt:
    """One command on a run, under way."""

    def __init__(self, arguments, folder):
        self.folder, self.began = folder, time.time_ns()
        self.output = tempfile.TemporaryFile("w+")
        command = [sys.executable, "-m", "golfzoo", "run", "--fresh", *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdout=self.output, stderr=subprocess.STDOUT, start_new_session=True, cwd=folder.parent
        )
        self.seen = set()  # processes that it started

    @property
    def status(self):
        return self.process.poll()

    def said(self):
        self.output.seek(0)
        return self.output.read()

    def workers(self):
        """Those of its own processes that are alive."""
        with open_or_empty(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
            self.seen |= {int(pid) for pid in file.read().split() if is_worker(int(pid))}
        return sorted(pid for pid in self.seen if is_worker(pid))

    def stage(self):
        """Where it is: by the last event that tells, or "start" until it has said in env.json what it runs with."""
        try:
            if (self.folder / "env.json").stat().st_mtime_ns < self.began:
                return "start"
            lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        except OSError:
            return "start"
        for line in reversed(lines):
            try:
                event = json.loads(line)
            except ValueError:  # it is just being written
                continue
            if event["event"] in ("stage", "reused"):
                return event["stage"]
            if event["event"] == "val":
                return "train"
            if event["event"] == "note" and event["text"].startswith("fit:"):
                return "fit"
            if event["event"] == "score":
                return "end"
        return "start"

    def wait_until(self, condition, seconds):
        """Whether it came true in time, before the process ended."""
        until = time.perf_counter() + seconds
        while self.status is None and time.perf_counter() < until:
            self.workers()
            if condition():
                return True
            time.sleep(0.004)
        return False

    def finish(self):
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failure(f"did not end within {PATIENCE:.0f} s") from None

    def left_behind(self):
        """Wait for the processes that it started; those that do not end are ended."""
        until = time.perf_counter() + 10.0
        while (left := self.workers()) and time.perf_counter() < until:
            time.sleep(0.02)
        for pid in left:
            send(signal.SIGKILL, pid)
        return left


def open_or_empty(path):
    try:
        return open(path)
    except OSError:
        return open(os.devnull)


def send(number, pid):
    with suppress(ProcessLookupError):  # it has just ended
        os.kill(pid, number)


def is_worker(pid):
    with open_or_empty(f"/proc/{pid}/cmdline") as file:
        return "golfzoo.running.elastic" in file.read()


def status_of(folder):
    path = folder / "result.json"
    return json.loads(path.read_text())["status"] if path.exists() else ""


def leave_alone(case):
    """Run it once for the files of all records to be in memory, and once more for its time and its stages."""
    for out in (case.alone.with_name(f"{case.alone.name}-before"), case.alone):
        begun = time.perf_counter()
        attempt = Attempt([case.record, "--nproc", case.processes, "--out", out], out)
        stages, last = {}, ("start", begun)
        while attempt.status is None:
            now, stage = time.perf_counter(), attempt.stage()
            stages[last[0]] = stages.get(last[0], 0.0) + now - last[1]
            last = stage, now
            time.sleep(0.004)
        case.seconds, case.stages = time.perf_counter() - begun, stages
        if attempt.status:
            sys.exit(f"{case.name}: left alone, it failed:\n{attempt.said()}")


class Campaign:
    def __init__(self, cases, number, seed, folder):
        self.cases, self.number, self.folder = cases, number, folder
        self.chance = random.Random(seed)
        self.counts = Counter()  # (name of what came, stage)
        self.statuses = Counter()  # (name of what came, exit status)
        self.notes = Counter()
        self.failures = []

    def go(self):
        for number, case in enumerate(itertools.cycle(self.cases)):
            if self.counts.total() >= self.number:
                return
            history: list[str] = []
            try:
                self.run_once(case, self.folder / f"run-{number}", history)
                self.notes["runs finished with the same bytes"] += 1
            except (Failure, AssertionError) as error:
                self.note_failure(f"{case.name}, run-{number}: {error}", history)

    def note_failure(self, what, history):
        self.failures.append((what, history))
        print(f"FAILURE {what}", flush=True)

    def run_once(self, case, folder, history):
        """Interrupt a run, and resume it, until it is through; then compare it with the one that was left alone."""
        arguments = [case.record, "--nproc", case.processes, "--out", folder]
        while status_of(folder) != "completed":
            attempt = Attempt(arguments, folder)
            try:
                self.attempt_once(case, attempt, history)
            except Failure as error:
                if history[-2].startswith("--- not"):
                    raise  # nothing came: it would fail for ever
                self.note_failure(f"{case.name}, {folder.name}: {error}", history.copy())
            if (folder / "env.json").exists():
                arguments = ["--resume", folder]
            elif folder.exists():  # there is nothing to go on with yet
                self.notes["folders without a run that was started"] += 1
                folder = folder.with_name(f"{folder.name}-")
                arguments = [case.record, "--nproc", case.processes, "--out", folder]
        assert_same(folder, case.alone)

    def attempt_once(self, case, attempt, history):
        came = stage = None
        if self.counts.total() < self.number and self.chance.random() < 0.85:
            came, stage = self.interrupt(case, attempt)
        attempt.finish()
        said = attempt.said()
        at_once = came and "launcher" in came and self.chance.random() < 0.5
        if came:
            history.append(f"--- {came} in stage {stage}, status {attempt.status}; its output:\n")
            self.counts[came, stage] += 1
            self.statuses[came, attempt.status] += 1
            print(f"{self.counts.total():4} {case.name:<22}{came:<22}{stage:<10} status {attempt.status}", flush=True)
        else:
            history.append(f"--- not interrupted, status {attempt.status}; its output:\n")
        history.append(said)
        for told in ("resumed at step", "taken over from"):
            self.notes[f'attempts that say "{told}"'] += told in said
        if not came and attempt.status == 1 and STILL_RUNNING in said:
            self.notes["refused: processes of the one before were still there"] += 1
            time.sleep(1.5)
            return
        if not came and status_of(attempt.folder) == "completed" and "nothing to go on with" in said:
            self.notes["too late to resume: processes of the one before had finished it"] += 1
            return
        self.judge(attempt, came, stage, said)
        if not at_once and (left := attempt.left_behind()):
            raise Failure(f"left processes behind: {left}")

    def interrupt(self, case, attempt):
        """Send one of the signals at a random moment. Returns what came, and in which stage; None where it was late."""
        if self.chance.random() < 0.25:
            attempt.wait_until(lambda: False, self.chance.uniform(0, case.seconds))
        else:
            wanted = self.chance.choice(sorted(case.stages))
            if attempt.wait_until(lambda: attempt.stage() == wanted, PATIENCE):
                attempt.wait_until(lambda: False, self.chance.uniform(0, case.stages[wanted]))
        sent = self.chance.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
        name, pid = sent.name, attempt.process.pid
        stage, workers = attempt.stage(), attempt.workers()
        if attempt.status is not None:
            return None, None
        if case.processes > 1:
            name += " launcher"
        if workers and sent == signal.SIGKILL and self.chance.random() < 0.6:
            which = self.chance.randrange(len(workers))
            name, pid = f"{sent.name} one of two", workers[which]
        if workers and sent != signal.SIGKILL and self.chance.random() < 0.4:
            name = f"{sent.name} all"
            for worker in workers:
                send(sent, worker)
        send(sent, pid)
        return name, stage if attempt.stage() != "end" else "end"  # it may have come to it meanwhile

    def judge(self, attempt, came, stage, said):
        status, folder = attempt.status, attempt.folder
        if status == 0:
            if status_of(folder) != "completed":
                raise Failure(f"status 0, and the result is {status_of(folder)!r}")
            if came and stage != "end":
                raise Failure(f"{came} in stage {stage}: it went on in spite of it")
            return
        if came is None:
            raise Failure(f"ended with status {status} though nothing came")
        if status_of(folder) == "completed":
            self.notes[f"completed, and ended with {status}"] += 1
        wanted = (1,) if came.endswith("one of two") else STATUSES[signal.Signals[came.split()[0]]]
        if status not in wanted:
            raise Failure(f"{came} in stage {stage}: status {status}, expected {wanted}")
        if "Traceback" in said:
            if stage != "start":
                raise Failure(f"{came} in stage {stage}: a traceback")
            self.notes["tracebacks at the start, among the imports"] += 1
        if (
            not came.startswith("SIGKILL")
            and stage != "start"
            and status_of(folder) not in ("interrupted", "completed")
        ):
            raise Failure(f"{came} in stage {stage}: the result is {status_of(folder)!r}")

    def report(self):
        names = sorted({name for name, _ in self.counts})
        order = [
            "start",
            "warmup",
            "train",
            "validate",
            "calibrate",
            "damage",
            "quantize",
            "fit",
            "compress",
            "load",
            "roundtrip",
        ]
        order += ["eval", "end"]
        stages = sorted({stage for _, stage in self.counts}, key=order.index)
        print("\n" + f"{'':<22}" + "".join(f"{stage:>10}" for stage in stages) + f"{'all':>8}")
        for name in names:
            row = [self.counts[name, stage] for stage in stages]
            print(f"{name:<22}" + "".join(f"{count or '':>10}" for count in row) + f"{sum(row):>8}")
        columns = [sum(self.counts[name, stage] for name in names) for stage in stages]
        print(f"{'all':<22}" + "".join(f"{count:>10}" for count in columns) + f"{sum(columns):>8}")
        print(
            "statuses: " + ", ".join(f"{name} -> {status}: {n}" for (name, status), n in sorted(self.statuses.items()))
        )
        for note, count in sorted(self.notes.items()):
            print(f"{count:5} {note}")
        print(f"{len(self.failures):5} failures")
        for what, history in self.failures:
            print(f"\n=== {what}\n" + "".join(history))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("number", nargs="?", type=int, default=100, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a new folder, which is kept")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell has in the background is deaf, with its own
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.out or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        os.environ |= {"GOLFZOO_DATA": str(folder / "data"), "GOLFZOO_CACHE": str(folder / "cache")}
        build_tiny_dataset(folder / "data")
        cases = []
        for (name, text), processes in itertools.product(RECORDS.items(), (1, 2)):
            record = folder / f"{name}.toml"
            record.write_text(text)
            cases.append(Case(f"{name}, {processes} processes", processes, record, folder / f"{name}-{processes}"))
            leave_alone(cases[-1])
            stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in cases[-1].stages.items())
            print(f"{cases[-1].name}: {cases[-1].seconds:.1f} s left alone ({stages})", flush=True)
        campaign = Campaign(cases, arguments.number, arguments.seed, folder)
        campaign.go()
        campaign.report()
    sys.exit(bool(campaign.failures))


if __name__ == "__main__":
    main()
