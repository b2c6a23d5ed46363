"""Runs Keras' own tests under `ElasticMirroredStrategy`: `make test-keras`.

    python -m tests.keras_suite                   # one device, then two
    python -m tests.keras_suite trainers          # files whose names have it
    python -m tests.keras_suite --write           # bring the list up to date

Keras' wheel has its tests. `differences.json` lists those that fail, each with
the reason why that is meant. This fails where any other test fails, and where
one that is listed passes. `--write` runs those that fail without a strategy and
under TensorFlow's `MirroredStrategy` too, drops from the list what passes,
keeps the reasons, and adds what is new: what fails there as well is so marked,
`MEANT` knows some, and the rest needs a reason, to be written by hand.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import keras

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LIST = HERE / "differences.json"
KERAS = pathlib.Path(keras.__file__).resolve().parent / "src"
FILES = (
    "backend/tensorflow/distribute_test.py",
    "backend/tensorflow/optimizer_distribute_test.py",
    "callbacks/swap_ema_weights_test.py",
    "layers/normalization/*_test.py",
    "layers/regularization/*dropout_test.py",
    "layers/rnn/*_test.py",
    "optimizers/*_test.py",
    "saving/saving_api_test.py",
    "saving/saving_lib_test.py",
    "trainers/trainer_test.py",
)
DEVICES = (1, 2)
PLAIN = "It fails without a strategy as well."
MIRRORED = "It fails under tf.distribute.MirroredStrategy as well."
UNEXPLAINED = "NO REASON YET"
# What is meant, as it shows in a test's name or in what the failure says.
MEANT = (
    (
        r"not found in 'ElasticVariable'",
        "The test asks for the name of TensorFlow's class.",
    ),
    (
        r"DistributeTest::test_seed_generator",
        "Each worker draws random numbers of its own.",
    ),
    (
        r"`use_ema` of the inner optimizer",
        "An average is the center's, so that an inner optimizer has none.",
    ),
    (
        r"`ema_overwrite_frequency` is not supported",
        "An average of the center never overwrites it.",
    ),
    (
        r"LocalSGD object at .* is not an instance of"
        r"|keyword argument optimizer if root\.optimizer already exists",
        "The test looks at its optimizer, which is inside of `LocalSGD` here.",
    ),
    (
        r"'SGD' object has no attribute '_model_variables_moving_average'",
        "The test looks at its optimizer, in whose place `EASGD` is here.",
    ),
    (
        r"with_multi_optimizer .*(learning_rate|Learning rate)",
        "Keras' callback looks for a `MultiOptimizer`, inside of `LocalSGD`.",
    ),
)


def chosen_files(words):
    """The test files whose path has one of the words; all without any."""
    paths = sorted(path for glob in FILES for path in KERAS.glob(glob))
    return [
        path
        for path in paths
        if not words or any(word in str(path) for word in words)
    ]


def outcomes(strategy, chosen, jobs):
    """{test: [outcome, what was said]} of files or tests, in a new process."""
    print(f"== {strategy}", flush=True)
    if not chosen:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        found = pathlib.Path(folder) / "outcomes.json"
        environment = {
            **os.environ,
            "KERAS_BACKEND": "tensorflow",
            "KERAS_SUITE": strategy,
            "KERAS_SUITE_OUTCOMES": str(found),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        command = [
            *(sys.executable, "-m", "pytest", "-q", "--tb=no", "-rN"),
            *(f"-c={HERE / 'pytest.ini'}", f"--rootdir={KERAS}"),
            *("-p", "tests.keras_suite.strategy_plugin"),
            *("-p", "no:cacheprovider", "--timeout=300"),
            *(("-n", str(jobs), "--dist=loadfile") if jobs > 1 else ()),
        ]
        command += chosen
        ended = subprocess.run(command, env=environment, check=False)
        if ended.returncode not in (0, 1):  # 1: tests failed
            raise SystemExit(f"pytest ended with code {ended.returncode}")
        return json.loads(found.read_text(encoding="utf-8"))


def failures(found):
    """{test: what was said} of those that failed."""
    return {
        test: said for test, (how, said) in found.items() if how == "failed"
    }


def read():
    """{(test, devices): reason}."""
    return {
        (test, devices): entry["reason"]
        for entry in json.loads(LIST.read_text(encoding="utf-8"))
        for test in entry["tests"]
        for devices in entry["devices"]
    }


def write(reasons):
    """The list, by reason and then by test, one test a line."""
    where = {}
    for (test, devices), reason in reasons.items():
        where.setdefault((reason, test), []).append(devices)
    groups = {}
    for (reason, test), devices in where.items():
        groups.setdefault((reason, *sorted(devices)), []).append(test)
    entries = [
        {"reason": reason, "devices": devices, "tests": sorted(tests)}
        for (reason, *devices), tests in sorted(groups.items())
    ]
    LIST.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def complaints(listed, failed, ran):
    """Sentences on what is not as the list says; of what ran alone."""
    for key, said in failed.items():
        if key not in listed:
            yield f"{name_of(key)} fails and is not listed: {first_line(said)}"
        elif listed[key].startswith(UNEXPLAINED):
            yield f"{name_of(key)} fails; the list has no reason yet"
    for key in listed:
        if key in ran and key not in failed:
            yield f"{name_of(key)} is listed as failing and does not"


def name_of(key):
    test, devices = key
    return f"{test} on {devices} device{'s' if devices > 1 else ''}"


def first_line(said):
    """What there is of it, in a line."""
    return " ".join(said.split())[:200] or "no message"


def controls(failed, jobs):
    """What of the failures fails without a strategy, and under TensorFlow's."""

    def of(devices):
        return [f"{KERAS / test}" for test, n in failed if n in devices]

    plain = failures(outcomes("none", sorted(set(of(DEVICES))), jobs))
    mirrored = {
        (test, n)
        for n in DEVICES
        for test in failures(outcomes(f"mirrored {n}", of([n]), jobs))
    }
    return plain, mirrored


def new_reason(key, said, plain, mirrored):
    """What can be said of a failure that has no reason yet."""
    test, _ = key
    if test in plain:
        return PLAIN
    if key in mirrored:
        return MIRRORED
    for pattern, reason in MEANT:
        if re.search(pattern, f"{test} {first_line(said)}"):
            return reason
    return f"{UNEXPLAINED}: {first_line(said)}"


def main(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m tests.keras_suite", description=__doc__.splitlines()[0]
    )
    parser.add_argument("words", nargs="*", help="parts of files' names")
    parser.add_argument(
        "--write", action="store_true", help="bring the list up to date"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    options = parser.parse_args(arguments)
    files = chosen_files(options.words)
    if not files:
        raise SystemExit(f"No file is named so: {options.words}")

    found = {
        (test, devices): outcome
        for devices in DEVICES
        for test, outcome in outcomes(
            f"elastic {devices}", files, options.jobs
        ).items()
    }
    listed, failed, ran = read(), failures(found), set(found)
    if options.write:
        plain, mirrored = controls(failed, options.jobs)
        kept = {key: r for key, r in listed.items() if key not in ran}
        # What may have become another failure is looked at anew.
        known = {
            key: reason
            for key, reason in listed.items()
            if reason not in (PLAIN, MIRRORED)
            and not reason.startswith(UNEXPLAINED)
        }
        for key, said in failed.items():
            kept[key] = known.get(key) or new_reason(key, said, plain, mirrored)
        write(kept)
        listed = read()
    wrong = list(complaints(listed, failed, ran))
    print(f"{len(ran) - len(failed)} passed, {len(failed)} differ, of which")
    for reason in sorted({listed[key] for key in failed if key in listed}):
        number = sum(listed.get(key) == reason for key in failed)
        print(f"{number:5d}  {reason}")
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
