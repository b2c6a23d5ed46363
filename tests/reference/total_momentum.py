"""The total momentum of a center, by looking back when all is over.

As in `pushes`: `schedule` is a list of worker indices; at each entry that
worker takes a gradient and pushes it, the first one where the center is by
then. Everything that ever was is kept.
"""

import numpy as np


def readings(
    gradient,
    initial,
    *,
    schedule,
    num_workers,
    learning_rate,
    momentum,
    nesterov=False,
    power=0.0,
    scaled=False,
    compensation=0.0,
    overlapped=False,
    cuts=(slice(None),),
):
    """What every push shows, and what it was made with.

    Centers are c_0, c_1, ...; the k-th push (k from 0) takes c_k to c_{k+1}:

      d_{k+1} = mu_k d_k - eta_k (g + lambda g * g * (y_k - y))
      c_{k+1} = c_k + d_{k+1},  y_{k+1} = c_{k+1} + mu_k d_{k+1} (`nesterov`),
                                y_{k+1} = c_{k+1} (otherwise)

    with eta_k = eta (k + 1)^-power / max(k - r, 1) (the latter if `scaled`),
    and g taken at y = y_r. Of every push with r > 0, the median over
    coordinates of

      (c_{r+1} - c_r + eta_r g) / (c_r - c_{r-1})

    Args:
        momentum: mu, a number or one for each worker.
        cuts: the coordinates that one median is over; several such.

    Returns:
        For each cut a list of (worker, mu_r, median), in the order of pushes.
    """
    mu = np.broadcast_to(momentum, num_workers)
    points = [np.array(initial, np.float64)]
    centers = [points[0]]
    rates, momenta, pushed = [], [], []
    at = [0] * num_workers  # the version that each is at
    answered = [None] * num_workers  # that is on its way to it
    clocks = [0] * num_workers
    step = np.zeros_like(points[0])
    for k, i in enumerate(schedule):
        if clocks[i] == 0:
            at[i] = k
        r = at[i]
        g = gradient(i, clocks[i], points[r])
        clocks[i] += 1
        if overlapped and answered[i] is not None:
            at[i] = answered[i]
        eta = learning_rate * (k + 1) ** -power
        if scaled:
            eta /= max(k - r, 1)
        corrected = g + compensation * g * g * (centers[k] - points[r])
        step = mu[i] * step - eta * corrected
        centers.append(centers[k] + step)
        points.append(centers[-1] + mu[i] * step if nesterov else centers[-1])
        rates.append(eta)
        momenta.append(mu[i])
        pushed.append((i, r, g))
        answered[i] = k + 1
        if not overlapped:
            at[i] = k + 1
    result = [[] for _ in cuts]
    for i, r, g in pushed:
        if r == 0:
            continue
        ratios = (centers[r + 1] - centers[r] + rates[r] * g) / (
            centers[r] - centers[r - 1]
        )
        for found, cut in zip(result, cuts, strict=True):
            found.append((i, momenta[r], np.median(ratios[cut])))
    return result
