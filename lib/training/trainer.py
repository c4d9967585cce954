"""The training loop of one member: reproducible, resumable, with a length in epochs or in seconds."""

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
from lib.training.loader import TrainingData
from lib.training.optimizers import build_optimizer, learning_rate, set_lr
from lib.training.resume import append_log, load_resume, restore_state, save_resume, training_state, truncate_log
from lib.training.step.finite_guard import FiniteGuard
from lib.training.step.gradients import StepGradients
from lib.workspace import Member

SAVE_INTERVAL = 20  # seconds, or one epoch where that is longer: the work that an interruption may cost
FORECAST_STEP = 20  # steps after which the length of the training is estimated


class Trainer:
    """Trains one network and keeps its state on disk.

        trainer = Trainer(config.train, network, build_loss(config.train.loss, 1), data, member)
        trainer.run(evaluate=None)

    `config`: no `auto` is left in it. `loss(outputs, target, valid, weight, progress)`: see lib/training/losses.
    `member`: its folder gets last.pt, metrics.jsonl and the weight files; its seed makes dropout reproducible.
    `processes`: those that train this member together; they say on which device.
    """

    def __init__(
        self, config: Train, network: nn.Module, loss: Callable, data: TrainingData, member: Member,
        processes: ProcessGroup = SINGLE_PROCESS,
    ):  # fmt: skip
        self.config, self.loss, self.data = config, loss, data
        self.folder, self.seed = member.path, member.seed
        self.name = f"{self.folder.parent.name}/{self.folder.name}"  # the member, in messages
        self.precision, self.device = config.precision, processes.device
        self.layout = layout_of(config.channels_last)
        self.network = network.to(self.device, memory_format=self.layout)
        self.network.display_name = self.name
        self.processes, self.replica = processes, self.network  # until `join_processes`
        self.forward: nn.Module = self.network
        self.unused: list[str] | None = None  # parameters that the loss does not depend on; None: not known yet
        self.optimizer = build_optimizer(config, self.network)
        self.scaler = scaler(self.device, config.precision)
        self.swa = WeightAverage(self.network)
        self.ema = WeightAverage(self.network, config.ema) if config.ema else None
        self.guard = FiniteGuard(self.network)
        self.gradients = StepGradients(self.name)
        self.epoch, self.step, self.seconds, self.waited, self.swa_samples = 0, 0, 0.0, 0.0, 0
        self.earlier_seconds = 0.0  # the part of `seconds` from interrupted runs
        self.first_step = 0, 0.0  # step and seconds after the first step of this run, which is slow
        self.best, self.score = float("-inf"), None
        self.on_log: Callable[[int, dict], object] = lambda step, numbers: None
        self.evaluations, self.plateaus, self.checkpoints = 0, 0, 0

    def progress(self) -> float:
        """Finished share of the training, 0 to 1, in seconds or in steps."""
        if self.config.member_limit:
            return min(1.0, self.seconds / self.config.member_limit)
        return min(1.0, self.step / self.total_steps())

    def progress_at(self, epoch: int) -> float:
        """Progress at the start of an epoch. For a training with a time limit: progress now, when samples are drawn."""
        return self.progress() if self.config.member_limit else min(1.0, epoch * self.data.steps() / self.total_steps())

    def total_steps(self) -> int:
        return max(1, round(self.config.epochs * self.data.steps()))

    def epoch_length(self) -> float:
        """One epoch as a share of the training, 0 to 1."""
        if self.config.member_limit and self.step:
            return self.data.steps() * self.seconds / self.step / self.config.member_limit
        return self.data.steps() / self.total_steps()

    def run(self, evaluate: Callable[[nn.Module], float] | None, members: int = 1) -> None:
        """Train to the end, continuing from last.pt where there is one.

        `evaluate(network) -> score` is called `train.evaluations` times during the training, once at its end, and for
        a greedy soup. `members`: trainings still to come, this one included; their total time is estimated.
        Raises UserError where the loss stays not finite.
        """
        state = self.processes.shared(load_resume(self.folder / "last.pt") if self.processes.is_main else None)
        if state is not None:
            self.guard.load_state_dict(state.get("guard", {}))
        self.start_from(state)
        self.join_processes()
        self.earlier_seconds = self.seconds
        total = self.config.member_limit or self.total_steps()
        unit, done = ("s", self.seconds) if self.config.member_limit else ("step", self.step)
        shape = "{l_bar}{bar}| {remaining} left{postfix}"
        bar = progress(total, self.folder.name, unit, shape, parts=True, done=done)
        saved = time.monotonic()
        batches = self.data.endless_batches(self.epoch, self.progress_at, self.processes)
        while self.progress() < 1:
            self.guard.save_state(training_state(self))
            self.run_epoch(batches, bar, members)
            if self.guard.stuck:
                self.roll_back()
                batches = self.data.endless_batches(self.epoch, self.progress_at, self.processes)
                continue
            self.epoch += 1
            self.evaluate(evaluate, bar)
            due = time.monotonic() - saved > SAVE_INTERVAL and not self.guard.in_row
            if self.processes.is_main and (due or self.progress() >= 1):
                save_resume(self.folder / "last.pt", training_state(self))
                saved = time.monotonic()
        bar.close()
        del batches  # its processes end
        if self.guard.skipped and not self.guard.taken:
            raise self.guard.divergence_error(self.name, self.step, self.lr())
        if self.processes.is_main:
            write_weights(self, evaluate)

    def start_from(self, state: dict | None) -> None:
        """Continue from a `training_state`, None for the beginning. Removes later lines of the log."""
        if state is not None:
            restore_state(self, state)
        self.gradients.clear()
        if self.processes.is_main:
            truncate_log(self.folder / "metrics.jsonl", self.step)

    def join_processes(self) -> None:
        """Wrap the network for several processes, and compile it if asked."""
        if self.processes.size > 1:
            if self.unused is None:
                first = next(self.data.endless_batches(0, lambda epoch: 0.0, self.processes))
                self.unused = self.processes.common(
                    unused_parameters(self.network, lambda copy: self.loss_of(copy, first))
                )
            for name in self.unused:
                self.network.get_parameter(name).requires_grad_(False)
        self.replica = self.processes.wrap(self.network, self.config.sync_batch_norm)
        self.forward = torch.compile(self.replica, dynamic=False) if self.config.compile else self.replica

    def evaluate(self, score: Callable[[nn.Module], float] | None, bar: Bar) -> None:
        """Score the network where the next of `train.evaluations` is due, or at the end of a training with some."""
        count = self.config.evaluations
        due = min(count + 1, int((count + 1) * self.progress()))
        if score and count and self.evaluations < due:
            self.evaluations, started = due, time.perf_counter()
            self.save_best(score)
            bar.aside(time.perf_counter() - started, count + 1 - due)

    def run_epoch(self, batches: Iterator[tuple[torch.Tensor, ...]], bar: Bar, members: int) -> None:
        """One epoch. Ends early with the training, or after too many skipped steps in a row."""
        torch.manual_seed((self.seed + self.processes.rank) * 100_003 + self.epoch)  # dropout and drop-path
        self.replica.train()
        losses, started, steps = [], time.perf_counter(), self.data.steps()
        for number, batch in enumerate(islice(batches, steps)):
            self.waited += time.perf_counter() - started
            # The last batches of an epoch do not wait for the next epoch, before which the run may be interrupted.
            first = number - number % self.config.accumulate
            accumulated = min(self.config.accumulate, steps - first)
            losses += self.train_batch(batch, number + 1 == first + accumulated, accumulated)
            now = time.perf_counter()
            self.seconds = self.processes.broadcast(self.seconds + now - started)
            bar.update(min(now - started if self.config.member_limit else 1, bar.total - bar.n))
            started = now
            if self.guard.stuck:
                return
            if not self.first_step[0]:
                self.first_step = self.step, self.seconds
            if self.step == FORECAST_STEP > self.first_step[0]:
                bar.write(self.forecast(members))
            self.sample_swa()
            self.save_checkpoints()
            score = "" if self.score is None else f" score {self.score:.4f}"
            bar.set_postfix_str(f"epoch {self.epoch} loss {mean(losses[-20:]):.3f}{score}", refresh=False)
            if self.progress() >= 1:
                break
        finite = [loss for loss in losses if math.isfinite(loss)]
        self.log(
            epoch=self.epoch, step=self.step, loss=mean(finite) if finite else None, lr=self.lr(),
            seconds=round(self.seconds, 2), waited=round(self.waited, 2), skipped=self.guard.skipped,
        )  # fmt: skip

    def forecast(self, members: int) -> str:
        """One line with the estimated length of this training, and of all `members` trainings to come."""
        each = (self.seconds - self.first_step[1]) / (self.step - self.first_step[0])
        limit = self.config.member_limit
        steps = self.step + max(0.0, limit - self.seconds) / each if limit else self.total_steps()
        seconds, epochs = limit or self.seconds + (steps - self.step) * each, steps / self.data.steps()
        estimate = duration(seconds) + (f", {duration(members * seconds)} for {members} members" * (members > 1))
        return f"03: {each:.2f} s a step: {steps:.0f} steps, {epochs:.1f} epochs in {estimate}, scoring aside"

    def lr(self) -> float:
        rate = learning_rate(self.config, self.progress(), self.epoch_length(), self.plateaus)
        return rate * self.guard.rate

    def train_batch(self, batch: tuple[torch.Tensor, ...], last: bool, accumulated: int) -> list[float]:
        """Forward and backward pass; after the `last` of the `accumulated` batches, one optimizer step.

        Returns the losses of all accumulated batches with the step, else []: reading a loss waits for the GPU.
        """
        if not self.gradients.losses:
            self.guard.save_buffers()
        self.gradients.add(self, batch, last, accumulated)
        losses = self.optimizer_step() if last else []
        self.step += 1  # after the learning rate was set: the last step of a cycle has the lowest
        return losses

    def loss_of(self, network: Callable, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        images, *labels = (t.to(self.device, non_blocking=True) for t in batch)
        images = images.contiguous(memory_format=self.layout)
        with autocast(self.device, self.precision):
            outputs = network(images)
        return self.loss(outputs, *labels, self.progress())

    def optimizer_step(self) -> list[float]:
        """One step with the accumulated gradients, skipped if they are not finite. Returns the batches' losses."""
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip or math.inf)
        *losses, norm = torch.stack([*self.gradients.losses, norm]).tolist()
        self.gradients.clear()
        if self.processes.all(all(map(math.isfinite, [*losses, norm]))):
            set_lr(self.optimizer, self.lr())
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if self.ema:
                self.ema.update(self.network)
            self.guard.count_step()
        elif not (self.gradients_overflowed() and self.processes.all(all(map(math.isfinite, losses)))):
            self.guard.skip_step()
            if self.guard.skipped == 1 and self.processes.is_main:
                Bar.write(self.guard.first_warning(self.name, self.step))
        self.optimizer.zero_grad(set_to_none=True)
        return losses

    def gradients_overflowed(self) -> bool:
        """Whether gradients exceeded float16 only because of the loss scale. Lowers the scale then."""
        before = self.scaler.get_scale()
        self.scaler.update()
        return self.scaler.is_enabled() and 1 < before > self.scaler.get_scale()

    def roll_back(self) -> None:
        """Return to the last epoch with a good start, with a lower learning rate. Raises UserError after too many."""
        clock, at = (self.seconds, self.waited), self.step
        self.start_from(self.guard.roll_back(self.name, self.step, self.lr()))
        self.seconds, self.waited = clock  # time is not rolled back
        if self.processes.is_main:
            Bar.write(self.guard.rollback_warning(self.name, at, self.step))

    def sample_swa(self) -> None:
        """Add the weights to the SWA average every `swa.every` epochs after `swa.start`."""
        swa = self.config.swa
        if swa.start >= 1:
            return
        passed = (self.progress() - swa.start) / (swa.every * self.epoch_length())
        if passed >= self.swa_samples + 1 or (self.progress() >= 1 and not self.swa_samples):
            self.swa_samples = max(1, int(passed))
            self.swa.update(self.network)

    def save_checkpoints(self) -> None:
        """Save the weights when the next of `train.checkpoints` is due."""
        start, count = self.config.checkpoints_from, self.config.checkpoints
        # Written so that the last one is due at a progress of exactly 1. A rounded sum might never be reached.
        while self.checkpoints < count and 1 - self.progress() <= (1 - start) * (1 - (self.checkpoints + 1) / count):
            self.checkpoints += 1
            if self.processes.is_main:
                save_weights(self.folder / f"checkpoint{self.checkpoints}_weights.pt", self.network)

    def save_best(self, evaluate: Callable[[nn.Module], float]) -> None:
        """Score the network, and save its weights if the score is the best so far."""
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
        """Add a line to metrics.jsonl and call `on_log`."""
        if self.processes.is_main:
            append_log(self.folder / "metrics.jsonl", record)
            self.on_log(self.step, {name: value for name, value in record.items() if name != "step"})


def mean(values: list[float]) -> float:
    """NaN for an empty list."""
    return sum(values) / len(values) if values else math.nan
