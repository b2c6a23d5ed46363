"""The picture of a cluster's events: what it has is what was told."""

import sys

import numpy as np
import pytest
from matplotlib import collections
from matplotlib import image

from tf_elastic import extras
from tf_elastic.timeline import Event
from tf_elastic.timeline import event as events
from tf_elastic.timeline import lanes
from tf_elastic.timeline import picture

BEGAN = 1000.0


def told(kind, time, teller, **fields):
    """An event at so many seconds."""
    who, _, number = teller.partition(" ")
    key = "shard" if who == "center" else "worker"
    return Event(kind, BEGAN + time, teller, **{key: int(number), **fields})


def exchange(time, shard, worker, sequence, outcome=events.APPLIED, read=0):
    return told(
        events.EXCHANGE,
        time,
        f"center {shard}",
        worker=worker,
        incarnation=1,
        sequence=sequence,
        version_read=read,
        version_applied=read + sequence - 1,
        outcome=outcome,
    )


def joined(time, worker, incarnation=1, kind=events.JOIN, **fields):
    """As both center servers tell it."""
    return [
        told(
            kind,
            time + 0.01 * k,
            f"center {k}",
            worker=worker,
            incarnation=incarnation,
            **fields,
        )
        for k in range(2)
    ]


STORY = [
    *joined(0, 0),
    *joined(1, 1),
    *(told(events.BEGIN, 2, f"center {k}", outcome="first") for k in (0, 1)),
    # One message: both servers take it, and the worker has its answer.
    exchange(10, 0, 0, 1),
    exchange(11, 1, 0, 1),
    told(
        events.ANSWER,
        12,
        "worker 0",
        incarnation=1,
        sequence=1,
        seconds=4.0,
        amount=2,
        outcome=events.APPLIED,
    ),
    told(events.WAIT, 13, "worker 0", seconds=3.0),
    exchange(14, 0, 0, 1, events.DUPLICATE),
    told(events.LOST_HALF, 15, "worker 0", amount=1),
    told(events.AWAY, 20, "worker 0", shard=1),
    told(events.AWAY, 21, "worker 1", shard=1),
    told(events.MISS, 22, "worker 1", shard=1),
    exchange(22, 0, 1, 1),
    told(events.BACK, 25, "worker 0", shard=1, seconds=5.0),
    told(events.BACK, 26, "worker 1", shard=1, seconds=5.0),
    told(
        events.EXCHANGE,
        30,
        "worker 1",
        incarnation=1,
        sequence=2,
        outcome=events.LATE,
    ),
    told(
        events.ANSWER,
        31,
        "worker 1",
        incarnation=1,
        sequence=3,
        seconds=1.0,
        outcome=events.MISSED,
    ),
    told(events.RESTART, 32, "worker 1"),
    *joined(40, 1, kind=events.DEATH),
    *joined(50, 1, incarnation=2),
    exchange(60, 0, 0, 2),
    exchange(60, 1, 0, 2),
    *joined(100, 0, kind=events.LEAVE, outcome=events.FINISHED),
]


def bars(axes):
    """Of each label the bars: lane, begin and end in seconds."""
    found = {}
    for drawn in axes.collections:
        if isinstance(drawn, collections.PolyCollection):
            found[drawn.get_label()] = sorted(
                (
                    round(float(path.vertices[:, 1].mean())),
                    *np.round(path.get_extents().intervalx, 6).tolist(),
                )
                for path in drawn.get_paths()
            )
    return found


def marks(axes):
    """Of each label the marks: lane and seconds."""
    return {
        drawn.get_label(): sorted(
            (round(float(lane)), round(float(time), 6))
            for time, lane in drawn.get_offsets()
        )
        for drawn in axes.collections
        if isinstance(drawn, collections.PathCollection)
    }


def test_a_lane_for_each_process():
    above, *_ = picture.draw(STORY).axes
    assert [label.get_text() for label in above.get_yticklabels()] == [
        *("worker 0", "worker 1", "center 0", "center 1"),
    ]
    assert above.get_ylim() == (3.5, -0.5)


def test_what_lasts_is_a_bar():
    above, *_ = picture.draw(STORY).axes
    assert bars(above) == {
        "there": [
            (0, 0.0, 100.0),
            (1, 1.0, 40.0),
            (1, 50.0, 100.01),
            (2, 2.0, 100.01),
            (3, 2.0, 100.01),
        ],
        "message to answer": [(0, 8.0, 12.0), (1, 30.0, 31.0)],
        "training waits": [(0, 10.0, 13.0)],
        "not reached": [(3, 20.0, 26.0)],
    }


def test_what_happens_is_a_mark():
    above, *_ = picture.draw(STORY).axes
    assert marks(above) == {
        "applied": [
            *[(0, 10.0), (0, 60.0), (1, 22.0)],
            *[(2, 10.0), (2, 22.0), (2, 60.0)],
            *[(3, 11.0), (3, 60.0)],
        ],
        "duplicate": [(0, 14.0), (2, 14.0)],
        "late": [(1, 30.0)],
        "missed by all": [(1, 31.0)],
        "missed by one": [(3, 22.0)],
        "lost half": [(0, 15.0)],
        "begins again": [(1, 32.0)],
        "has parameters": [(2, 2.0), (3, 2.0)],
        "joins": [(0, 0.0), (1, 1.0), (1, 50.0)],
        "dies": [(1, 40.0)],
        "leaves": [(0, 100.0)],
    }


def test_one_legend_for_all():
    figure = picture.draw(STORY)
    assert all(axes.get_legend() is None for axes in figure.axes)
    [legend] = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert len(set(labels)) == len(labels)
    assert {*bars(figure.axes[0]), *marks(figure.axes[0])} <= set(labels)


def test_staleness_is_that_of_each_message_once():
    # 4 messages, each told by two servers, make two bins of equal length.
    found = [
        exchange(t + k / 10, k, 0, t + 1) for t in range(4) for k in range(2)
    ]
    _, staleness, speed = picture.draw(found).axes
    [mean] = staleness.lines
    times, values = mean.get_data()
    np.testing.assert_allclose(times, [3.1 / 4, 3 * 3.1 / 4])
    np.testing.assert_allclose(values, [0.5, 2.5])
    [band] = staleness.collections
    low, high = band.get_paths()[0].get_extents().intervaly
    assert (low, high) == (0, 3)
    [steps] = speed.patches
    np.testing.assert_allclose(steps.get_data().values, 2 * [2 / (3.1 / 2)])
    np.testing.assert_allclose(steps.get_data().edges, [0, 3.1 / 2, 3.1])


def test_what_is_not_applied_has_a_line_of_its_own():
    *_, speed = picture.draw(STORY).axes
    # A duplicate, a late one and one that nobody has taken; of each 3.
    for label in ("applied, a second", "not applied, a second"):
        [steps] = [p for p in speed.patches if p.get_label() == label]
        values, edges, _ = steps.get_data()
        np.testing.assert_allclose(np.sum(values * np.diff(edges)), 3)
        assert edges[-1] == pytest.approx(100.01)


def test_a_second_run_in_the_same_file_is_drawn_too():
    again = [e._replace(time=e.time + 500) for e in STORY]
    above, *_ = picture.draw([*STORY, *again]).axes
    for label, first in marks(picture.draw(STORY).axes[0]).items():
        second = [(lane, time + 500) for lane, time in first]
        assert marks(above)[label] == sorted([*first, *second]), label
    assert len(bars(above)["message to answer"]) == 4
    # Between the runs nobody was there.
    there = bars(above)["there"]
    assert (1, 50.0, 50.01) in there and (1, 501.0, 540.0) in there
    assert (2, 2.0, 100.0) in there and (2, 502.0, 600.01) in there


def test_a_life_whose_end_nobody_has_told_ends_where_it_was_heard_of():
    found = [
        told(events.JOIN, 0, "center 0", worker=0, incarnation=1),
        exchange(7, 0, 0, 1),
        told(events.JOIN, 30, "center 0", worker=0, incarnation=2),
        told(events.BEGIN, 40, "center 0"),
    ]
    assert [
        (bar.lane, bar.begin - BEGAN, bar.end - BEGAN)
        for bar in lanes.of(found).bars
    ] == [
        ("worker 0", 0.0, 7.0),
        ("worker 0", 30.0, 40.0),
        ("center 0", 40.0, 40.0),
    ]


def crowd(workers, each):
    """Many workers that exchange all the time."""
    found = []
    for k in range(each):
        for w in range(workers):
            time = k + w / workers
            found += [
                exchange(time, 0, w, k + 1),
                told(
                    events.ANSWER,
                    time,
                    f"worker {w}",
                    seconds=0.5,
                    sequence=k + 1,
                    outcome=events.APPLIED,
                ),
                told(events.WAIT, time, f"worker {w}", seconds=0.1),
            ]
    return found


@pytest.mark.parametrize(("workers", "each"), [(2, 2000), (64, 100)])
def test_many_events_stay_legible(workers, each, tmp_path):
    found = crowd(workers, each)
    figure = picture.draw(found)
    above, staleness, _ = figure.axes
    assert len(above.get_yticks()) == workers + 1
    # One artist for each kind, whatever the number of lanes and events.
    assert len(above.collections) == 3
    drawn = marks(above)["applied"]
    in_lane = np.bincount([lane for lane, _ in drawn])
    assert in_lane.max() <= 1201
    assert in_lane[:workers].min() >= min(each, 1200)
    assert len(staleness.lines[0].get_xdata()) <= 120
    path = tmp_path / "new" / "many.png"
    picture.plot(found, path, "many")
    height, width = image.imread(path).shape[:2]
    assert width == 1560 and 500 < height < 2000
    # Names do not touch.
    names = [label.get_window_extent() for label in above.get_yticklabels()]
    edges = sorted((box.y0, box.y1) for box in names)
    assert all(a[1] <= b[0] for a, b in zip(edges, edges[1:], strict=False))


def test_names_of_very_many_lanes_are_left_out_evenly():
    found = [
        told(events.JOIN, w, "center 0", worker=w, incarnation=1)
        for w in range(400)
    ]
    above, *_ = picture.draw(found).axes
    names = [label.get_text() for label in above.get_yticklabels()]
    assert names[:2] == ["worker 0", "worker 2"] and len(names) == 201


def test_a_single_event_is_drawn(tmp_path):
    picture.plot(joined(0, 0)[:1], tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 1000


def test_nothing_global_is_touched(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    picture.plot(STORY, tmp_path / "run.png")
    assert "matplotlib.pyplot" not in sys.modules


def test_what_cannot_be_drawn(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"must end in '\.png'.*run\.pdf"):
        picture.plot(STORY, tmp_path / "run.pdf")
    with pytest.raises(ValueError, match="must be an event to draw"):
        picture.plot([], tmp_path / "run.png")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(extras.MissingExtraError, match="a table made instead"):
        picture.plot(STORY, tmp_path / "run.png")
    assert not list(tmp_path.iterdir())
