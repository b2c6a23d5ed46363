"""Runs side by side: the numbers of their events."""

import itertools

import pytest

from tests import log_support
from tf_elastic.timeline import Event
from tf_elastic.timeline import __main__ as program
from tf_elastic.timeline import compare
from tf_elastic.timeline import event as events
from tf_elastic.timeline.summary import summary


def of_worker(kind, time, worker, **fields):
    return Event(
        kind, time, f"worker {worker}", worker=worker, incarnation=1, **fields
    )


def of_center(kind, time, worker, **fields):
    return Event(
        kind,
        time,
        "center 0",
        worker=worker,
        shard=0,
        incarnation=1,
        num_workers=2,
        **fields,
    )


def run(scale=1.0, stale=(0, 1, 4)):
    """Two workers; the first one exchanges after each ten steps."""
    found = [of_center(events.JOIN, 0.0, w) for w in range(2)]
    found += [
        of_worker(events.START, 1.0, w, step_applied=5, version_read=0)
        for w in range(2)
    ]
    for number, staleness in enumerate(stale, start=1):
        time, step = 1.0 + number * scale, 5 + 10 * number
        message = {"sequence": number, "step_sent": step}
        found += [
            of_center(
                events.EXCHANGE,
                time,
                0,
                **message,
                version_read=10,
                version_applied=10 + staleness,
                bytes=1000,
                outcome=events.APPLIED,
            ),
            of_worker(
                events.ANSWER,
                time + 0.1,
                0,
                **message,
                seconds=0.2,
                outcome=events.APPLIED,
            ),
            of_worker(events.WAIT, time + 0.1, 0, seconds=0.1),
            of_worker(
                events.SETTLE, time + 0.1, 0, **message, step_applied=step
            ),
        ]
    end = 1.0 + len(stale) * scale + 0.5
    found += [
        of_worker(events.END, end, w, step_applied=5 + 10 * len(stale))
        for w in range(2)
    ]
    found.append(of_center(events.LEAVE, end, 0, outcome=events.FINISHED))
    found.append(of_center(events.DEATH, end, 1))
    return found


def test_the_numbers_are_added_up():
    found = summary(run())
    assert (found.workers, found.steps, found.exchanges) == (2, 60, 3)
    assert found.seconds == pytest.approx(3.5)
    assert found.lived_s == pytest.approx(7.0)
    assert found.steps_per_s == pytest.approx(60 / 3.5)
    assert found.staleness == {0: 1, 1: 1, 4: 1}
    assert found.mean_staleness == pytest.approx(5 / 3)
    assert found.wait_share == pytest.approx(0.3 / 7.0)
    assert found.exchange_share == pytest.approx(0.6 / 7.0)
    assert (found.bytes, found.left_out, found.missed) == (3000, 0, 0)
    assert found.ends == {events.FINISHED: 1, "died": 1}


def test_each_life_counts_its_own_steps():
    second = [
        event._replace(time=event.time + 10, incarnation=2)
        for event in run(stale=(0,))
        if event.worker == 1
    ]
    found = summary([*run(), *second])
    assert found.steps == 60 + 10
    # Not what is between two lives.
    assert found.lived_s == pytest.approx(7.0 + 1.5)


def test_an_older_log_has_no_starts():
    found = [e for e in run() if e.kind not in (events.START, events.END)]
    assert summary(found).steps == 20  # from its first message on
    assert summary(found).workers == 2


def test_nothing_is_not_divided_by():
    nothing = summary([])
    assert nothing.steps == nothing.exchanges == 0
    assert nothing.steps_per_s is nothing.wait_share is None
    assert "mean staleness         -" in compare.table({"a": nothing})


def test_a_run_that_is_half_as_quick(tmp_path, capsys):
    for name, scale in (("a", 1.0), ("b", 2.125)):
        lines = [event.to_json() for event in run(scale)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    paths = [str(tmp_path / f"{name}.jsonl") for name in "ab"]
    assert program.main(["compare", *paths]) == 0
    shown = {
        " ".join(
            itertools.takewhile(lambda w: not w[0].isdigit(), words)
        ): words
        for words in map(str.split, capsys.readouterr().out.splitlines())
    }
    header = next(iter(shown.values()))
    assert header == ["a.jsonl", "b.jsonl", "ratio"]
    assert shown["steps a second"][-3:] == ["17.14", "8.73", "0.51"]
    assert shown["seconds"][-3:] == ["3.50", "6.88", "1.97"]
    assert shown["exchanges"][-3:] == ["3", "3", "1.00"]
    assert shown["mean staleness"][-3:] == ["1.67", "1.67", "1.00"]
    assert shown["died"][-3:] == ["1", "1", "1.00"]
    # Of more there are no ratios; files of one name are named whole.
    other = tmp_path / "other" / "a.jsonl"
    other.parent.mkdir()
    other.write_text((tmp_path / "a.jsonl").read_text())
    assert program.main(["compare", *paths, str(other)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == [*paths, str(other)]


def test_the_distribution_is_of_all_exchanges():
    found = summary(run(stale=(0, 0, 1, 4, 40, 41, 12)))
    shown = compare.table({"a": found}).splitlines()
    lines = [line.split() for line in shown if line.startswith("staleness")]
    assert [line[1:] for line in lines] == [
        ["0", "28.6%"],
        ["1", "14.3%"],
        ["2", "0.0%"],
        ["3", "to", "4", "14.3%"],
        ["5", "to", "8", "0.0%"],
        ["9", "to", "16", "14.3%"],
        ["17", "to", "32", "0.0%"],
        ["33", "or", "more", "28.6%"],
    ]


@pytest.mark.parametrize("protocol", log_support.PROTOCOLS)
def test_a_real_log_is_added_up(tmp_path, protocol):
    entries = log_support.record(tmp_path / "events.jsonl", protocol)
    found = summary([entry.event for entry in entries])
    assert (found.workers, found.steps) == (2, 2 * 11)
    assert found.exchanges == 2 * 6
    assert 0 < found.wait_share < 1
    assert found.ends == {events.FINISHED: 2}
