"""The list of differences from Keras' own tests, and who compares with it."""

import re

import pytest

from tests.keras_suite import __main__ as suite

LISTED = {("a_test.py::A::test_x", 1): "It is meant."}


def test_each_difference_is_of_a_test_that_is_run():
    listed = suite.read()
    files = {suite.KERAS / key[0].split("::")[0] for key in listed}
    assert files <= set(suite.chosen_files([]))
    for (test, devices), reason in listed.items():
        name = test.split("::")[-1]
        source = suite.KERAS.joinpath(test.split("::")[0]).read_text()
        # Parametrized ones have an ending.
        assert any(
            name.startswith(found)
            for found in re.findall(r"def (test_\w+)", source)
        ), test
        assert devices in suite.DEVICES
        assert reason.endswith((".", "...")) or suite.UNEXPLAINED in reason


def test_every_file_that_is_named_is_in_the_wheel():
    for glob in suite.FILES:
        assert list(suite.KERAS.glob(glob)), glob


@pytest.mark.parametrize(
    ("failed", "ran", "told"),
    [
        (set(LISTED), set(LISTED), None),
        (set(), set(), None),
        (set(), set(LISTED), "test_x on 1 device is listed as failing"),
        (
            {("a_test.py::A::test_x", 2)},
            {("a_test.py::A::test_x", 2)},
            "test_x on 2 devices fails and is not listed: Error: one two",
        ),
    ],
)
def test_what_is_not_as_listed_is_told(failed, ran, told):
    said = dict.fromkeys(failed, "Error: one\n  two")
    found = list(suite.complaints(LISTED, said, ran))
    assert len(found) == bool(told)
    assert not told or told in found[0]


def test_a_failure_without_a_reason_is_told():
    [key] = LISTED
    reason = suite.new_reason(key, "Error: one", {}, set())
    assert reason == f"{suite.UNEXPLAINED}: Error: one"
    [told] = suite.complaints({key: reason}, {key: "Error: one"}, {key})
    assert "no reason yet" in told


def test_the_reasons_that_show_by_themselves():
    [key] = LISTED
    test, _ = key
    ema = "ValueError: `use_ema` of the inner optimizer would average"
    assert suite.new_reason(key, ema, {test: ema}, {key}) == suite.PLAIN
    assert suite.new_reason(key, ema, {}, {key}) == suite.MIRRORED
    assert "average" in suite.new_reason(key, ema, {}, set())


def test_the_list_is_written_as_it_is_read(tmp_path, monkeypatch):
    reasons = {
        ("b_test.py::B::test_y", 1): "First.",
        ("b_test.py::B::test_y", 2): "First.",
        ("a_test.py::A::test_x", 2): "Second.",
        ("a_test.py::A::test_x", 1): "First.",
    }
    monkeypatch.setattr(suite, "LIST", tmp_path / "list.json")
    suite.write(reasons)
    assert suite.read() == reasons
    assert suite.LIST.read_text().count("test_y") == 1
