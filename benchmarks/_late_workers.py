"""Workers that exchange with one center, event by event, by `core` alone.

When anybody arrives does not depend on what is learned. So it is found first
(`arrivals`), then who of them is late, for many bounds at once (`late_ones`),
and then training goes by that (`Replay`). A worker does its local steps,
arrives, exchanges at once, and goes on: the exchange takes no time. There is
no thread, no process and no clock.
"""

from typing import Any
from typing import NamedTuple

import numpy as np

from tf_elastic.core import lateness
from tf_elastic.core import local_steps
from tf_elastic.core import rules
from tf_elastic.core.rules.base import CENTER
from tf_elastic.data import sources

# How long a local step of a worker takes; the usual one 1, or as drawn.
SPEEDS = (
    "equal",
    "lognormal",
    "heavy_tailed",
    "slow_2",
    "slow_5",
    "slow_20",
)
HIDDEN = 16
PIXELS = 64
CLASSES = 10
BATCH = 16
TOGETHER = 8  # workers whose local steps are computed at once


def step_times(speeds, p, steps, rng):
    """What each local step takes, [p, steps].

    Args:
        speeds: one of SPEEDS. lognormal: of sigma 0.5. heavy_tailed: by a
            Pareto law of exponent 1.5, whose variance is infinite. slow_K:
            worker 0 takes K times as long; all vary by a tenth.
        p: workers.
        steps: of each.
        rng: NumPy's generator.
    """
    if speeds == "equal":
        return np.ones((p, steps))
    if speeds == "lognormal":
        return rng.lognormal(0.0, 0.5, (p, steps))
    if speeds == "heavy_tailed":
        return 1.0 + rng.pareto(1.5, (p, steps))
    times = rng.lognormal(0.0, 0.1, (p, steps))
    times[0] *= int(speeds.removeprefix("slow_"))
    return times


def arrivals(speeds, p, period, turns, seed, away=None):
    """Who exchanges, one after another.

    Args:
        speeds: one of SPEEDS.
        p: workers, at least 2.
        period: local steps between two exchanges.
        turns: p times as many arrivals are given.
        seed: of the times.
        away: (after, turns): worker 0 stops after so many exchanges, for as
            long as so many turns of the others take; None for never.

    Returns:
        The workers' numbers, [p * turns].
    """
    rng = np.random.default_rng([seed, p, period, SPEEDS.index(speeds)])
    rounds = 2 * turns + 20  # The others of a slow one have more than `turns`.
    times = step_times(speeds, p, rounds * period, rng)
    times = times.reshape(p, rounds, period).sum(-1).cumsum(1)
    # They do not begin together.
    times += period * np.arange(p)[:, None] / p
    if away is not None:
        after, length = away
        times[0, after:] += length * period
    worker = np.repeat(np.arange(p), rounds)
    order = np.argsort(times, axis=None, kind="stable")
    order = order[: p * turns]
    if times.ravel()[order[-1]] > times[:, -1].min():
        raise ValueError("`rounds` is too small: a worker has run out of them.")
    return worker[order]


class Lateness(NamedTuple):
    """Who is late; each [bounds, arrivals]."""

    late: Any
    lag: Any  # before the arrival


def late_ones(order, p, bounds):
    """Who of those that arrive is late, for each bound.

    Args:
        order: of `arrivals`.
        p: workers.
        bounds: of `max_lag`, None for none.

    Returns:
        `Lateness`.
    """
    limits = np.array([np.inf if b is None else b for b in bounds])
    version = np.zeros(len(bounds))
    settled = np.zeros((p, len(bounds)))
    late = np.zeros((len(order), len(bounds)), bool)
    lag = np.zeros(late.shape)
    for k, i in enumerate(order):
        versions = version - settled[i]
        lag[k] = lateness.lag(versions, p)
        late[k] = lateness.is_late(versions, p, limits)
        version = version + ~late[k]
        settled[i] = version
    return Lateness(late.T, lag.T)


class Method(NamedTuple):
    """How workers step and what they exchange."""

    rule: Any
    rate: Any  # (p, period) -> the learning rate
    momentum: float = 0.0
    beta: float = 0.9


# DOWNPOUR and gradients add up: with p the rate gets smaller (docs/methods.md).
METHODS = {
    "EASGD": Method(rules.Elastic(), lambda p, period: 0.1),
    "EAMSGD": Method(rules.Elastic(), lambda p, period: 0.02, 0.9),
    "DOWNPOUR": Method(rules.Add(), lambda p, tau: min(0.1, 1 / (p * tau))),
    "gradients": Method(
        rules.HeavyBall(), lambda p, period: min(0.1, 0.4 / p), 0.5
    ),
}


class Digits:
    """The digits of the package, and a network of one hidden layer."""

    size = (PIXELS + 1) * HIDDEN + (HIDDEN + 1) * CLASSES

    def __init__(self):
        source = sources.read_digits("train")
        images = source.images.numpy()
        self._images = images.reshape(len(images), PIXELS) / 16
        self._hot = np.eye(CLASSES)[source.labels.numpy()]
        self._looked_at = slice(0, 300)

    def __len__(self):
        return len(self._images)

    def start(self, seed):
        """The first parameters, [size]."""
        rng = np.random.default_rng([seed, 1])
        first = rng.normal(0, PIXELS**-0.5, PIXELS * HIDDEN)
        second = rng.normal(0, HIDDEN**-0.5, HIDDEN * CLASSES)
        zeros = np.zeros
        return np.concatenate([first, zeros(HIDDEN), second, zeros(CLASSES)])

    def _parts(self, flat):
        at, parts = 0, []
        for rows, columns in ((PIXELS + 1, HIDDEN), (HIDDEN + 1, CLASSES)):
            # The last row is the bias.
            part = flat[..., at : at + rows * columns]
            parts.append(part.reshape(*flat.shape[:-1], rows, columns))
            at += rows * columns
        return parts

    def _forward(self, flat, images):
        first, second = self._parts(flat)
        hidden = np.tanh(images @ first[..., :-1, :] + first[..., -1:, :])
        scores = hidden @ second[..., :-1, :] + second[..., -1:, :]
        scores -= scores.max(-1, keepdims=True)
        return hidden, second, scores

    def loss(self, flat):
        """Of each of [..., size], on images that are always the same."""
        _, _, scores = self._forward(flat, self._images[self._looked_at])
        hot = self._hot[self._looked_at]
        each = np.log(np.exp(scores).sum(-1)) - (scores * hot).sum(-1)
        return each.mean(-1)

    def gradient(self, flat, batch):
        """Of the loss.

        Args:
            flat: [n, bounds, size].
            batch: which images, [n, BATCH].
        """
        images = self._images[batch][:, None]
        hidden, second, scores = self._forward(flat, images)
        out = np.exp(scores)
        out /= out.sum(-1, keepdims=True)
        out -= self._hot[batch][:, None]
        out /= batch.shape[-1]
        back = (out @ second[..., :-1, :].swapaxes(-1, -2)) * (1 - hidden**2)
        parts = (
            images.swapaxes(-1, -2) @ back,
            back.sum(-2),
            hidden.swapaxes(-1, -2) @ out,
            out.sum(-2),
        )
        lead = flat.shape[:-1]
        return np.concatenate([x.reshape(*lead, -1) for x in parts], -1)


class Replay:
    """Training, for several answers to who is late, side by side.

    Args:
        problem: `Digits`, or the like.
        method: of METHODS.
        p: workers.
        period: local steps between two exchanges.
        seed: of the start and the minibatches.
        variants: how many answers.
    """

    def __init__(self, problem, method, p, period, seed, variants):
        self._problem, self._method = problem, method
        self._p, self._period = p, period
        self._rule = method.rule
        rate = method.rate(p, period)
        self._learning_rate = rate
        self._rates = {
            "num_workers": p,
            "moving_rate": method.beta / p,
            "beta": method.beta,
            "learning_rate": rate,
            "momentum": method.momentum,
        }
        start = np.tile(problem.start(seed), (variants, 1))
        self.slots = self._rule.init(start)
        self.points = np.tile(start, (p, 1, 1))
        self._velocities = np.zeros_like(self.points)
        self._read = self.points.copy()
        self._gradients = np.zeros_like(self.points)
        self._ready = np.zeros(p, bool)
        self._batches = [np.random.default_rng([seed, 2, i]) for i in range(p)]

    @property
    def center(self):
        """[variants, size]."""
        return self.slots[CENTER]

    def advance(self, i):
        """The local steps of worker i; of others that wait for theirs, too."""
        if self._ready[i]:
            return
        waiting = np.flatnonzero(~self._ready)
        others = waiting[waiting != i]
        some = np.concatenate([[i], others[: TOGETHER - 1]])
        size = (self._period, BATCH)
        drawn = [
            self._batches[j].integers(len(self._problem), size=size)
            for j in some
        ]
        state = local_steps.MomentumState(
            self.points[some], self._velocities[some]
        )
        for batch in np.stack(drawn, 1):
            if self._rule.sends == rules.GRADIENT:  # The center steps.
                self._gradients[some] = self._problem.gradient(
                    state.parameters, batch
                )
                continue
            momentum = self._method.momentum
            gradient = self._problem.gradient(
                local_steps.lookahead_point(*state, momentum), batch
            )
            state = local_steps.momentum_step(
                *state, gradient, self._learning_rate, momentum
            )
        self.points[some], self._velocities[some] = state
        self._ready[some] = True

    def answer(self, i):
        """What an exchange of worker i would lead to.

        Returns:
            The center's slots, and where the worker goes on.
        """
        rule, rates = self._rule, self._rates
        if rule.sends == rules.POINT:
            message = self.points[i]
        elif rule.sends == rules.INCREMENT:
            message = rules.increment(self.points[i], self._read[i])
        else:
            message = self._gradients[i]
        delta = rule.delta(message, self.slots)
        moved = rule.apply(self.slots, delta, rates)
        if rule.answers_difference:
            return moved, rule.settle(message, delta, rates)
        return moved, rule.begin(moved, rates)

    def exchange(self, i, late):
        """Worker i arrives; where `late`, [variants], it is left out."""
        self.advance(i)
        moved, point = self.answer(i)
        out = late[:, None]
        begin = self._rule.begin(self.slots, self._rates)
        self.points[i] = np.where(out, begin, point)
        self._read[i] = self.points[i]
        self._velocities[i] = np.where(out, 0.0, self._velocities[i])
        self.slots = {
            name: np.where(out, self.slots[name], value)
            for name, value in moved.items()
        }
        self._ready[i] = False

    def stay(self, i):
        """Worker i has arrived, and the center cannot be reached."""
        self.advance(i)
        self._ready[i] = self._rule.sends == rules.GRADIENT
