r"""Trains a network on several devices, processes or machines, elastically.

Every device, or with --local_workers or TF_CONFIG every process, is a worker
with parameters of its own. Every few steps workers and a shared center give
way to each other; the center is what is tested and saved. Without any flag:
handwritten digits (they come with the package), 4 workers on this machine's
CPU, EAMSGD, less than a minute.

Four commands to begin with:

  python train.py
  python train.py --local_workers=2 --status
  python train.py --optimizer=easgd --epochs=12 --logdir=runs/tb --plot=runs/easgd.png
  python train.py --dataset=cifar10 --data_dir=~/tensorflow_datasets --model_dir=runs/cifar --logdir=runs/cifar/tb
"""  # noqa: E501

import sys
from collections.abc import Sequence

from tf_elastic.program import main as program


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program.

    Args:
        argv: the program's name, then its flags; None for `sys.argv`.

    Returns:
        The exit status: 0; 2 if what was asked for cannot be done, 130 after
        Ctrl-C.
    """
    return program.main(sys.argv if argv is None else argv, __doc__)


if __name__ == "__main__":
    sys.exit(main())
