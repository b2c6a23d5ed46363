"""What is left out: synchronous SGD with the first m, and Ringmaster.

Both are told in which order gradients arrive: at each entry of `schedule` one
worker is ready with the gradient of the point that it was given last. Row k of
a trajectory is the state before arrival k.
"""

import numpy as np

from tests.reference.pushes import Rows


def sync_sgd(
    gradient,
    initial,
    *,
    schedule,
    num_workers,
    learning_rate,
    momentum=0.0,
    first=None,
    stops=False,
):
    """One step by the mean of the m gradients of a round that come first.

    In round k every worker is to take a gradient at x_k. When m have come

      v <- mu v - eta 1/m sum of these, x_{k+1} <- x_k + v

    and those who have come begin round k + 1 at once. A worker that comes
    later with a gradient of a former round is not counted: the gradient is
    dropped, and it begins the round that is open. (Chen et al., 2016, and,
    with `first` = m, Begunov and Tyurin, 2026, m-Synchronous SGD.) Without
    `first`, m is p. With `stops` nobody is late: when a round ends, all others
    stop what they do and begin the next one; what is not finished is none of
    their gradients.

    `"rounds"` is the number of the open round, `"dropped"` whether arrival k
    was.
    """
    p, m = num_workers, first or num_workers
    x = np.array(initial, np.float64)
    v = 0 * x
    points = [x.copy() for _ in range(p)]
    given_in = [0] * p
    clocks = [0] * p
    came, waiting, number = [], [], 0
    rows = Rows(workers=points, center=x, rounds=0, dropped=0)
    for i in schedule:
        assert i not in waiting, "it waits for the round to end"
        g = gradient(i, clocks[i], points[i])
        eta = learning_rate
        if callable(learning_rate):
            eta = learning_rate(clocks[i])
        clocks[i] += 1
        is_late = given_in[i] < number
        if is_late:
            points[i], given_in[i] = x.copy(), number
        else:
            came.append(g)
            waiting.append(i)
        if len(came) == m:
            v = momentum * v - eta * sum(came) / m
            x = x + v
            number += 1
            for j in range(p) if stops else waiting:
                points[j], given_in[j] = x.copy(), number
            came, waiting = [], []
        rows.add(workers=points, center=x, rounds=number, dropped=is_late)
    return rows.stacked()


def ringmaster(
    gradient,
    initial,
    *,
    schedule,
    num_workers,
    learning_rate,
    threshold,
):
    """Maranjyan et al. (2025), Ringmaster ASGD without calculation stops.

    With the gradient of worker i, taken at x_{k - delta}:

      if delta < R: x_{k+1} <- x_k - gamma g, k <- k + 1
      else:         ignore it
      the worker begins a new gradient at x_k

    R is `threshold`. `"staleness"` is delta of arrival k, `"dropped"` whether
    it was ignored.
    """
    p = num_workers
    x, k = np.array(initial, np.float64), 0
    points = [x.copy() for _ in range(p)]
    given_at = [0] * p
    clocks = [0] * p
    rows = Rows(workers=points, center=x, staleness=0, dropped=0)
    for i in schedule:
        g = gradient(i, clocks[i], points[i])
        clocks[i] += 1
        delay = k - given_at[i]
        if delay < threshold:
            x = x - learning_rate * g
            k += 1
        points[i], given_at[i] = x.copy(), k
        rows.add(
            workers=points,
            center=x,
            staleness=delay,
            dropped=delay >= threshold,
        )
    return rows.stacked()
