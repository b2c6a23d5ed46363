"""The project's own conformance tests, on logical devices of one card."""

import os
import pathlib
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

from benchmarks.gpu_check import finding
from benchmarks.gpu_check.finding import Finding

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = ("conformance", "conformance_options", "workers_per_device", "stores")
MEMORY_MB = 512  # of each of eight logical devices
DEADLINE_S = 1700.0  # for all of them


def run(setting):
    found = []
    end = time.monotonic() + DEADLINE_S
    files = setting.size(FILES, FILES[-1:])
    for name in files:
        some = ["-k", "live_copy_is_shown"] if setting.small else []
        found.append(tests_of(setting, name, some, end - time.monotonic()))
    return found


def tests_of(setting, name, some, deadline_s):
    """Runs the tests of a file; their counts as a finding."""
    first = "GPU:0" if setting.device == "GPU" else "CPU:1"
    with tempfile.TemporaryDirectory(prefix="conformance_") as folder:
        report = pathlib.Path(folder, "report.xml")
        command = [
            *(sys.executable, "-m", "pytest", f"tests/{name}_test.py", "-q"),
            *("-m", "not full", "--hypothesis-profile=few"),
            *("-p", "no:cacheprovider", "--tb=short", f"--junitxml={report}"),
            *some,
        ]
        try:
            ended = subprocess.run(
                command,
                cwd=ROOT,
                env={
                    **os.environ,
                    "TF_ELASTIC_TEST_DEVICES": first,
                    "TF_ELASTIC_TEST_GPU_MB": str(MEMORY_MB),
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=max(deadline_s, 1.0),
            )
        except subprocess.TimeoutExpired as late:
            return Finding(name, "", "all", finding.FAILED, str(late))
        print(ended.stdout)
        if not report.exists():
            return Finding(name, "", "", finding.FAILED, end_of(ended.stdout))
        ran, wrong = counts(report.read_text(encoding="utf-8"))
    met = ran > 0 and not wrong
    line = finding.judged(
        setting,
        f"{name}_test.py on {first}, ...",
        f"{ran - len(wrong)} of {ran} passed",
        "all",
        met,
        of_card=False,
    )
    if met:
        return line
    return line._replace(error="\n".join([*wrong[:20], end_of(ended.stdout)]))


def end_of(text):
    return "\n".join(text.splitlines()[-15:])


def counts(report):
    """How many tests ran, and the names of those that have not passed."""
    ran, wrong = 0, []
    for case in xml.etree.ElementTree.fromstring(report).iter("testcase"):
        if case.find("skipped") is not None:
            continue
        ran += 1
        if case.find("failure") is not None or case.find("error") is not None:
            wrong.append(case.get("name"))
    return ran, wrong
