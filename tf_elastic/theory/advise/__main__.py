"""The advisor's command line: python -m tf_elastic.theory.advise --help."""

import argparse
import sys
from typing import Any

from tf_elastic.theory.advise.advisor import advise
from tf_elastic.theory.advise.setting import RULES


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: what was given, without the program's name; by default the
            process' own.

    Returns:
        The exit status: 0 if the setting is stable, 1 if it is not, 2 for a
        wrong argument.
    """
    parser = _parser()
    options: dict[str, Any] = vars(parser.parse_args(arguments))
    options = {name: v for name, v in options.items() if v is not None}
    for name in ("curvature", "staleness"):
        values = options.get(name, [])
        if len(values) == 1:
            [options[name]] = values
        elif name == "curvature" and len(values) == 2:
            options[name] = tuple(values)
    try:
        advice = advise(**options)
    except ValueError as error:
        parser.error(str(error))
    sys.stdout.write(f"{advice}\n")
    return 0 if advice.stable else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tf_elastic.theory.advise",
        description="Says whether a setting is stable, and what to do if it is "
        "not. Without an argument it takes the optimizer's own default.",
    )
    add = parser.add_argument
    add("--rule", default="EASGD", choices=list(RULES), help="the optimizer")
    add("--learning_rate", type=float, required=True, help="eta")
    add(
        "--curvature",
        type=float,
        nargs="+",
        required=True,
        metavar="H",
        help="the largest eigenvalue of the Hessian; two: the smallest and the "
        "largest; more: all of them",
    )
    add("--num_workers", type=int, help="p (default: 4)")
    add(
        "--protocol",
        help="jacobi, gauss_seidel, round_robin, overlapped, blocking or "
        "synchronous",
    )
    add("--communication_period", type=int, help="tau, local steps")
    add("--moving_rate", type=float, help="alpha")
    add("--beta", type=float, help="beta")
    add("--momentum", type=float, help="delta or mu, in [0, 1)")
    add("--nesterov", action=argparse.BooleanOptionalAction)
    add(
        "--staleness",
        type=float,
        nargs="+",
        metavar="S",
        help="updates of the center between read and push: one number, or "
        "measured ones",
    )
    add("--elasticity", type=float, help="rho, of ADMM")
    of_these = "of DiLoCo and AsyncDiLoCo"
    add("--outer_learning_rate", type=float, help=of_these)
    add("--outer_momentum", type=float, help=of_these)
    add(
        "--input_shape",
        type=float,
        help="lambda of the Gamma distribution of a sample's curvature "
        "(default: 0.5, normal inputs)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
