"""The training of one member: deterministic, resumable, fitted to epochs or to the clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from itertools import islice

import torch
from torch import nn

from lib.config.training import Train
from lib.config.units import duration
from lib.models.weight_files import save_weights
from lib.system.device import layout_of
from lib.system.precision import autocast, scaler
from lib.system.terminal import Bar, progress
from lib.training.averaging import WeightAverage, write_weights
from lib.training.distributed import SINGLE_PROCESS, ProcessGroup, unused_parameters
from lib.training.finite_guard import Guard
from lib.training.loader import Data
from lib.training.optimizers import build_optimizer, learning_rate, set_lr
from lib.training.resume import append_line, cut_lines, load_resume, restore, save_resume, state_of
from lib.workspace import Member

SAVED_EVERY = 20  # seconds, or an epoch where that is longer: what a kill may cost
FORETOLD = 20  # steps after which the rest is foretold


class Trainer:
    """Holds the moving parts of one member's training and their state on disk."""

    def __init__(
        self,
        config: Train,
        network: nn.Module,
        loss: Callable,
        data: Data,
        member: Member,
        processes: ProcessGroup = SINGLE_PROCESS,
    ):
        self.config, self.loss, self.data = config, loss, data
        self.folder, self.seed = member.path, member.seed
        self.name = f"{self.folder.parent.name}/{self.folder.name}"  # the member, in messages
        self.precision, self.device = config.precision, processes.device
        self.layout = layout_of(config.channels_last)
        self.network = network.to(self.device, memory_format=self.layout)
        self.network.called = self.name
        self.processes, self.replica = processes, self.network  # until `join_processes`
        self.forward: nn.Module = self.network
        self.unused: list[str] | None = None  # parameters that the loss does not depend on; None: not asked
        self.optimizer = build_optimizer(config, self.network)
        self.scaler = scaler(self.device, config.precision)
        self.swa = WeightAverage(self.network)
        self.ema = WeightAverage(self.network, config.ema) if config.ema else None
        self.guard = Guard(self.network)
        self.waiting: list[torch.Tensor] = []  # losses of the batches since the last step
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

        `evaluate(network) -> score` is called `train.evaluations` times on the way, then once at the end, and for a
        soup. `members`: how many such trainings are to come, this one too; it is told how long they will take.
        Raises UserError where steps that are not finite ruin it.
        """
        state = load_resume(self.folder / "last.pt")
        if state is not None:
            self.guard.load_state_dict(state.get("guard", {}))
        self.start_from(state)
        self.join_processes()
        self.earlier = self.seconds
        total = self.config.member_limit or self.total_steps()
        unit, done = ("s", self.seconds) if self.config.member_limit else ("step", self.step)
        shape = "{l_bar}{bar}| {remaining} left{postfix}"
        bar = progress(total, self.folder.name, unit, shape, parts=True, done=done)
        saved = time.monotonic()
        batches = self.data.endless(self.epoch, self.progress_at, self.processes)
        while self.progress() < 1:
            self.guard.keep(state_of(self))
            self.run_epoch(batches, bar, members)
            if self.guard.stuck:
                self.go_back()
                batches = self.data.endless(self.epoch, self.progress_at, self.processes)
                continue
            self.epoch += 1
            self.evaluate(evaluate, bar)
            due = time.monotonic() - saved > SAVED_EVERY and not self.guard.in_row
            if self.processes.is_main and (due or self.progress() >= 1):
                save_resume(self.folder / "last.pt", state_of(self))
                saved = time.monotonic()
        bar.close()
        del batches  # its processes end
        if self.guard.skipped and not self.guard.taken:
            raise self.guard.hopeless(self.name, self.step, self.lr())
        if self.processes.is_main:
            write_weights(self, evaluate)

    def start_from(self, state: dict | None) -> None:
        """Go on from what `state_of` gave, None for the beginning; later lines of the log are forgotten."""
        if state is not None:
            restore(self, state)
        self.waiting.clear()
        if self.processes.is_main:
            cut_lines(self.folder / "metrics.jsonl", self.step)

    def join_processes(self) -> None:
        """Become one of the processes that train this member together."""
        if self.processes.size > 1:
            if self.unused is None:
                first = next(self.data.endless(0, lambda epoch: 0.0, self.processes))
                self.unused = self.processes.common(
                    unused_parameters(self.network, lambda copy: self.loss_of(copy, first))
                )
            for name in self.unused:
                self.network.get_parameter(name).requires_grad_(False)
        self.replica = self.processes.wrap(self.network)
        self.forward = torch.compile(self.replica, dynamic=False) if self.config.compile else self.replica

    def evaluate(self, score: Callable[[nn.Module], float] | None, bar: Bar) -> None:
        """Score the network where another of `train.evaluations` is due, or at the end of a training that had some."""
        every = self.config.evaluations
        passed = min(every + 1, int((every + 1) * self.progress()))
        if score and every and self.evaluations < passed:
            self.evaluations, began = passed, time.perf_counter()
            self.keep_best(score)
            bar.aside(time.perf_counter() - began, every + 1 - passed)

    def run_epoch(self, batches: Iterator[tuple[torch.Tensor, ...]], bar: Bar, members: int) -> None:
        """One epoch, or what of it comes before the training's end or before too many skipped steps in a row."""
        torch.manual_seed((self.seed + self.processes.rank) * 100_003 + self.epoch)  # dropout and drop-path
        self.network.train()
        losses, started, steps = [], time.perf_counter(), self.data.steps()
        for number, batch in enumerate(islice(batches, steps)):
            self.waited += time.perf_counter() - started
            # An epoch's last batches are not left for the next one, which may be another process's.
            begun = number - number % self.config.accumulate
            group = min(self.config.accumulate, steps - begun)
            losses += self.train_batch(batch, number + 1 == begun + group, group)
            now = time.perf_counter()
            self.seconds = self.processes.broadcast(self.seconds + now - started)
            bar.update(min(now - started if self.config.member_limit else 1, bar.total - bar.n))
            started = now
            if self.guard.stuck:
                return
            if not self.begun[0]:
                self.begun = self.step, self.seconds
            if self.step == FORETOLD > self.begun[0]:
                bar.write(self.foretell(members))
            self.sample_swa()
            self.keep_checkpoints()
            known = "" if self.score is None else f" score {self.score:.4f}"
            bar.set_postfix_str(f"epoch {self.epoch} loss {mean(losses[-20:]):.3f}{known}", refresh=False)
            if self.progress() >= 1:
                break
        finite = [loss for loss in losses if math.isfinite(loss)]
        self.log(
            epoch=self.epoch, step=self.step, loss=mean(finite) if finite else None, lr=self.lr(),
            seconds=round(self.seconds, 2), waited=round(self.waited, 2), skipped=self.guard.skipped,
        )  # fmt: skip

    def foretell(self, members: int) -> str:
        """What the first steps say of this training, and of all that are to come."""
        each = (self.seconds - self.begun[1]) / (self.step - self.begun[0])
        limit = self.config.member_limit
        steps = self.step + max(0.0, limit - self.seconds) / each if limit else self.total_steps()
        seconds, epochs = limit or self.seconds + (steps - self.step) * each, steps / self.data.steps()
        taken = duration(seconds) + (f", {duration(members * seconds)} for {members} members" * (members > 1))
        return f"03: {each:.2f} s a step: {steps:.0f} steps, {epochs:.1f} epochs in {taken}, scoring aside"

    def lr(self) -> float:
        rate = learning_rate(self.config, self.progress(), self.epoch_length(), self.plateaus)
        return rate * self.guard.rate

    def train_batch(self, batch: tuple[torch.Tensor, ...], last: bool, group: int) -> list[float]:
        """Forward, backward and, with the `last` of a `group` of batches, one step.

        Returns the losses of the group's batches then, before nothing: a GPU is waited for once a step.
        """
        if not self.waiting:
            self.guard.begin()
        with self.processes.no_sync(self.replica, last):
            loss = self.loss_of(self.forward, batch)
            self.scaler.scale(loss / group).backward()
        self.waiting.append(loss.detach())
        losses = self.take_step() if last else []
        self.step += 1  # after the rate was set: a cycle's last step takes its lowest
        return losses

    def loss_of(self, network: Callable, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        images, *labels = (t.to(self.device, non_blocking=True) for t in batch)
        images = images.contiguous(memory_format=self.layout)
        with autocast(self.device, self.precision):
            outputs = network(images)
        return self.loss(outputs, *labels, self.progress())

    def take_step(self) -> list[float]:
        """One step with the gradients of the waiting batches, whose losses it returns; left out if not finite."""
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip or math.inf)
        *losses, norm = torch.stack([*self.waiting, norm]).tolist()
        self.waiting.clear()
        if self.processes.all(all(map(math.isfinite, [*losses, norm]))):
            set_lr(self.optimizer, self.lr())
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if self.ema:
                self.ema.update(self.network)
            self.guard.took()
        elif not (self.scale_is_lowered() and self.processes.all(all(map(math.isfinite, losses)))):
            self.guard.skip()
            if self.guard.skipped == 1 and self.processes.is_main:
                Bar.write(self.guard.first(self.name, self.step))
        self.optimizer.zero_grad(set_to_none=True)
        return losses

    def scale_is_lowered(self) -> bool:
        """Whether gradients were too large for float16 only since the scaler had raised them; it lowers its scale."""
        before = self.scaler.get_scale()
        self.scaler.update()
        return self.scaler.is_enabled() and 1 < before > self.scaler.get_scale()

    def go_back(self) -> None:
        """To the last epoch that began in order, with a lower learning rate. Raises UserError when that was in vain."""
        clock, at = (self.seconds, self.waited), self.step
        self.start_from(self.guard.go_back(self.name, self.step, self.lr()))
        self.seconds, self.waited = clock  # which do not go back
        if self.processes.is_main:
            Bar.write(self.guard.returned(self.name, at, self.step))

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
            if self.processes.is_main:
                save_weights(self.folder / f"checkpoint{self.checkpoints}_weights.pt", self.network)

    def keep_best(self, evaluate: Callable[[nn.Module], float]) -> None:
        self.network.eval()
        self.score = score = self.processes.broadcast(evaluate(self.network))
        self.log(epoch=self.epoch, step=self.step, score=score)
        if score > self.best:
            self.best = score
            if self.processes.is_main:
                save_weights(self.folder / "best_weights.pt", self.network)
        else:
            self.plateaus += 1

    def log(self, **record: object) -> None:
        """One JSON line."""
        if self.processes.is_main:
            append_line(self.folder / "metrics.jsonl", record)
            self.watch(self.step, {name: value for name, value in record.items() if name != "step"})


def mean(values: list[float]) -> float:
    """NaN where there are none."""
    return sum(values) / len(values) if values else math.nan
