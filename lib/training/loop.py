"""The training of one member: deterministic, resumable, fitted to epochs or to the clock."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from lib.config.training import Train
from lib.config.units import duration
from lib.data.dataset import TileDataset
from lib.precision import autocast, scaler
from lib.terminal import Bar, progress
from lib.training.averaging import WeightAverage, greedy_soup, mean_of, update_bn
from lib.training.checkpoint import load_resume, load_weights, save_resume, save_weights
from lib.training.device import layout_of
from lib.training.optim import build_optimizer, learning_rate, set_lr
from lib.training.team import ALONE, Team

SAVED_EVERY = 20  # seconds, or an epoch where that is longer: what a kill may cost
FORETOLD = 20  # steps after which the rest is foretold


@dataclass
class Data:
    """What a member trains on."""

    dataset: TileDataset
    sampler: Any  # as lib/data/dataset.py:BalancedSampler
    workers: int
    batch_size: int
    pinned: bool = False
    """Whether batches come in memory that a copy to the GPU need not wait for."""

    def batches(self, epoch: int, progress: float = 0.0) -> Iterator[tuple[torch.Tensor, ...]]:
        """The batches of one epoch, whole ones only (batch norm dislikes a batch of one).

        `progress`: share of the training that is done.
        """
        return self._load(self._groups(epoch, progress))

    def endless(
        self, epoch: int, progress: Callable[[int], float], team: Team = ALONE
    ) -> Iterator[tuple[torch.Tensor, ...]]:
        """The batches of `epoch` and of all after it, or this process's shares of them, from processes that live on.

        `progress(epoch)` is asked as an epoch is drawn, some batches before it begins.
        """
        groups = (group for number in count(epoch) for group in self._groups(number, progress(number)))
        return self._load(map(team.share, groups))

    def _groups(self, epoch: int, progress: float) -> list[list]:
        keys = self.sampler.keys(epoch, progress)
        size = min(self.batch_size, len(keys))
        return [keys[i : i + size] for i in range(0, len(keys) - size + 1, size)]

    def _load(self, groups: Iterable[list]) -> Iterator[tuple[torch.Tensor, ...]]:
        # No torch generator: every sample is seeded by its key, so workers may come and go.
        return iter(
            DataLoader(
                self.dataset, batch_sampler=groups, num_workers=self.workers,
                prefetch_factor=4 if self.workers else None, pin_memory=self.pinned,
            )
        )  # fmt: skip

    def steps(self) -> int:
        return max(1, self.sampler.size // min(self.batch_size, self.sampler.size))


class Trainer:
    """Holds the moving parts of one member's training and their state on disk."""

    def __init__(
        self,
        config: Train,
        network: nn.Module,
        loss: Callable,
        data: Data,
        folder: Path,
        *,
        seed: int,
        device: torch.device,
        team: Team = ALONE,
    ):
        """`config` is settled: no `auto` is left in it. `team`: the processes that train this member together."""
        self.config, self.loss, self.data, self.folder = config, loss, data, Path(folder)
        self.seed, self.precision, self.device = seed, config.precision, device
        self.layout = layout_of(config.channels_last)
        self.network = network.to(device, memory_format=self.layout)
        self.team, self.replica = team, team.wrap(self.network)
        self.forward = torch.compile(self.replica, dynamic=False) if config.compile else self.replica
        self.optimizer = build_optimizer(config, self.network)
        self.scaler = scaler(device, config.precision)
        self.swa = WeightAverage(self.network)
        self.ema = WeightAverage(self.network, config.ema) if config.ema else None
        self.epoch, self.step, self.seconds, self.waited, self.swa_samples = 0, 0, 0.0, 0.0, 0
        self.earlier = 0.0  # of `seconds`, those of processes before this one
        self.begun = 0, 0.0  # step and seconds after this process's first step, which loads and compiles
        self.best, self.score = float("-inf"), None
        self.watch: Callable[[int, dict], object] = lambda step, numbers: None
        self.evaluations, self.plateaus, self.checkpoints = 0, 0, 0

    # ---- progress ------------------------------------------------------------------------------

    def progress(self) -> float:
        """Share of the training that is done, by the clock or by steps."""
        if self.config.member_limit:
            return min(1.0, self.seconds / self.config.member_limit)
        return min(1.0, self.step / self.total_steps())

    def progress_at(self, epoch: int) -> float:
        """Progress as an epoch begins; by the clock, as its samples are drawn."""
        return self.progress() if self.config.member_limit else min(1.0, epoch * self.data.steps() / self.total_steps())

    def total_steps(self) -> int:
        return max(1, round(self.config.epochs * self.data.steps()))

    def epoch_length(self) -> float:
        """One epoch as a share of the training."""
        if self.config.member_limit and self.step:
            return self.data.steps() * self.seconds / self.step / self.config.member_limit
        return self.data.steps() / self.total_steps()

    # ---- the loop ------------------------------------------------------------------------------

    def run(self, evaluate: Callable[[nn.Module], float] | None, members: int = 1) -> None:
        """Train to the end, from wherever the last run of this member stopped.

        `evaluate(network) -> score` is called `train.evaluations` times on the way, and for a soup. `members`: how
        many such trainings are to come, this one too; it is told how long they will take.
        """
        self.resume()
        self.earlier = self.seconds
        total = self.config.member_limit or self.total_steps()
        unit = "s" if self.config.member_limit else "step"
        done = self.seconds if self.config.member_limit else self.step
        shape = "{l_bar}{bar}| {remaining} left{postfix}"
        bar = progress(total, self.folder.name, unit, shape, parts=True, done=done)
        saved = time.monotonic()
        batches = self.data.endless(self.epoch, self.progress_at, self.team)
        while self.progress() < 1:
            self.run_epoch(batches, bar, members)
            self.epoch += 1
            passed = int((self.config.evaluations + 1) * self.progress())
            if evaluate and self.evaluations < passed and self.progress() < 1:
                self.evaluations, began = passed, time.perf_counter()
                self.keep_best(evaluate)
                bar.aside(time.perf_counter() - began, self.config.evaluations - passed)
            if self.team.leads and (self.progress() >= 1 or time.monotonic() - saved > SAVED_EVERY):
                self.save()
                saved = time.monotonic()
        bar.close()
        del batches  # its processes end
        if self.team.leads:
            self.finish(evaluate)

    def run_epoch(self, batches: Iterator[tuple[torch.Tensor, ...]], bar: Bar, members: int) -> None:
        torch.manual_seed((self.seed + self.team.rank) * 100_003 + self.epoch)  # dropout and drop-path
        self.network.train()
        losses, started = [], time.perf_counter()
        for number, batch in enumerate(islice(batches, self.data.steps())):
            self.waited += time.perf_counter() - started
            # An epoch's last batches are not left for the next one, which may be another process's.
            last = (number + 1) % self.config.accumulate == 0 or number + 1 == self.data.steps()
            value = self.train_batch(batch, last)
            losses.append(value)
            now = time.perf_counter()
            self.seconds = self.team.leaders(self.seconds + now - started)
            bar.update(min(now - started if self.config.member_limit else 1, bar.total - bar.n))
            started = now
            if not self.begun[0]:
                self.begun = self.step, self.seconds
            if self.step == FORETOLD > self.begun[0]:
                bar.write(self.foretell(members))
            self.sample_swa()
            self.keep_checkpoints()
            recent = losses[-20:]
            known = "" if self.score is None else f" score {self.score:.4f}"
            bar.set_postfix_str(f"epoch {self.epoch} loss {sum(recent) / len(recent):.3f}{known}", refresh=False)
            if self.progress() >= 1:
                break
        self.log(
            epoch=self.epoch,
            step=self.step,
            loss=sum(losses) / len(losses),
            lr=self.lr(),
            seconds=round(self.seconds, 2),
            waited=round(self.waited, 2),
        )

    def foretell(self, members: int) -> str:
        """What the first steps say of this training, and of all that are to come."""
        each = (self.seconds - self.begun[1]) / (self.step - self.begun[0])
        limit = self.config.member_limit
        steps = self.step + max(0.0, limit - self.seconds) / each if limit else self.total_steps()
        seconds, epochs = limit or self.seconds + (steps - self.step) * each, steps / self.data.steps()
        taken = duration(seconds) + (f", {duration(members * seconds)} for {members} members" * (members > 1))
        return f"03: {each:.2f} s a step: {steps:.0f} steps, {epochs:.1f} epochs in {taken}, scoring aside"

    def lr(self) -> float:
        return learning_rate(self.config, self.progress(), self.epoch_length(), self.plateaus)

    def train_batch(self, batch: tuple[torch.Tensor, ...], last: bool) -> float:
        """Forward, backward and, when the accumulated gradients are complete, one step. Returns the loss."""
        images, target, valid, weight = (t.to(self.device, non_blocking=True) for t in batch)
        images = images.contiguous(memory_format=self.layout)
        with self.team.unsent(self.replica, last):
            with autocast(self.device, self.precision):
                outputs = self.forward(images)
            loss = self.loss(outputs, target, valid, weight, self.progress())
            self.scaler.scale(loss / self.config.accumulate).backward()
        if last:
            self.scaler.unscale_(self.optimizer)
            if self.config.clip:
                nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
            set_lr(self.optimizer, self.lr())
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
            if self.ema:
                self.ema.update(self.network)
        self.step += 1  # after the rate was set: a cycle's last step takes its lowest
        return float(loss.detach())

    def sample_swa(self) -> None:
        """Take a sample each time another `swa.every` epochs have passed since `swa.start`."""
        swa = self.config.swa
        if swa.start >= 1:
            return
        passed = (self.progress() - swa.start) / (swa.every * self.epoch_length())
        if passed >= self.swa_samples + 1 or (self.progress() >= 1 and not self.swa_samples):
            self.swa_samples = max(1, int(passed))
            self.swa.update(self.network)

    def keep_checkpoints(self) -> None:
        """Keep the weights as another of `train.checkpoints` moments is reached."""
        start, count = self.config.checkpoints_from, self.config.checkpoints
        # Exactly 1 for the last: a rounded sum might never be reached.
        while self.checkpoints < count and 1 - self.progress() <= (1 - start) * (1 - (self.checkpoints + 1) / count):
            self.checkpoints += 1
            if self.team.leads:
                save_weights(self.folder / f"checkpoint{self.checkpoints}_weights.pt", self.network)

    def finish(self, evaluate: Callable[[nn.Module], float] | None = None) -> None:
        """Write the weights to predict with; an average gets its batch-norm statistics first."""
        save_weights(self.folder / "last_weights.pt", self.network)
        averages = {"swa": self.swa if self.swa_samples else None, "ema": self.ema}
        if self.config.checkpoints:
            paths = [self.folder / f"checkpoint{i + 1}_weights.pt" for i in range(self.config.checkpoints)]
            states = [load_weights(path) for path in paths]
            averages["mean"] = mean_of(states, self.network)
            if self.config.soup and evaluate:
                averages["soup"] = greedy_soup(states, self.network, lambda average: evaluate(self.ready(average)))
        for name, average in averages.items():
            if average:
                save_weights(self.folder / f"{name}_weights.pt", self.ready(average))

    def ready(self, average: WeightAverage) -> nn.Module:
        """An average as a network to predict with."""
        network = average.network(self.network)
        update_bn(network, self.calm_batches(), self.precision)
        return network

    def calm_batches(self) -> Iterator[torch.Tensor]:
        """Images for batch-norm statistics, from an epoch that training never reaches."""
        for number, batch in enumerate(self.data.batches(10**6, self.progress())):
            if number == self.config.swa.bn_batches:
                return
            yield batch[0].contiguous(memory_format=self.layout)

    def keep_best(self, evaluate: Callable[[nn.Module], float]) -> None:
        self.network.eval()
        self.score = score = self.team.leaders(evaluate(self.network))
        self.log(epoch=self.epoch, step=self.step, score=score)
        if score > self.best:
            self.best = score
            if self.team.leads:
                save_weights(self.folder / "best_weights.pt", self.network)
        else:
            self.plateaus += 1

    # ---- state ---------------------------------------------------------------------------------

    def save(self) -> None:
        numbers = {k: getattr(self, k) for k in _NUMBERS}
        save_resume(
            self.folder / "last.pt",
            {
                **numbers,
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "swa": self.swa.state_dict(),
                "ema": self.ema.state_dict() if self.ema else {},
            },
        )

    def resume(self) -> None:
        state = load_resume(self.folder / "last.pt")
        if state is None:
            return
        for key in _NUMBERS:
            setattr(self, key, state[key])
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.swa.load_state_dict(state["swa"])
        if self.ema:
            self.ema.load_state_dict(state["ema"])
        if self.team.leads:
            self.cut_log()

    def log(self, **record: object) -> None:
        """One JSON line."""
        if not self.team.leads:
            return
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self.watch(self.step, {name: value for name, value in record.items() if name != "step"})

    def cut_log(self) -> None:
        """Forget the lines of an epoch that was not finished; it is trained again."""
        path = self.folder / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        kept = [line for line in lines if json.loads(line)["step"] <= self.step]
        path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")


_NUMBERS = (
    "epoch", "step", "seconds", "waited", "swa_samples", "best", "score", "evaluations", "plateaus", "checkpoints",
)  # fmt: skip
