"""What cannot have been so is found in a tree's log: one changed record is."""

import random

import pytest

from tests import one_way_support as live
from tests import timeline_verify_test as stars
from tests import virtual_tree_support as support
from tests.virtual_tree_engine_test import FAULTY
from tests.virtual_tree_support import SLOW
from tests.virtual_tree_support import TREES
from tf_elastic.core import one_way
from tf_elastic.timeline import event as events
from tf_elastic.timeline import picture
from tf_elastic.timeline import report
from tf_elastic.timeline import summary
from tf_elastic.timeline.status import Status
from tf_elastic.timeline.verify import verify
from tf_elastic.timeline.virtual import events_of

TIMINGS = {"even": 1.0, "slow": SLOW, "faulty": FAULTY}


def rates(children):
    return one_way.rates(0.9 / (children + 1))


def log(name, timing, count, **options):
    made = support.timeline(timing, TREES[name], seed=3, **options)
    return list(events_of(made, support.first(made, count), rates=rates))


def wrong(found):
    return [str(violation) for violation in verify(found)]


@pytest.mark.parametrize("most_waiting", [1, 3])
@pytest.mark.parametrize("timing", TIMINGS)
@pytest.mark.parametrize("name", TREES)
def test_a_virtual_tree_can_have_been_so(name, timing, most_waiting):
    found = log(name, TIMINGS[timing], 800, most_waiting=most_waiting)
    assert wrong(found) == []
    kinds = {event.kind for event in found}
    assert {events.BEGIN, events.ATTACH, events.SEND} < kinds
    if timing == "slow" and name != "answered" and most_waiting == 1:
        assert events.DROP in kinds
    again = [events.Event.from_json(event.to_json()) for event in found]
    assert again == found


# Nothing else tells of these: when the first and the last things happened; at
# which step, within those before and after it; at which version a worker has
# started; p, before a child was there; and what becomes of the last points.
NOT_FOUND = {
    *((kind, "time", how) for kind in events.KINDS for how in ("more", "less")),
    *(("exchange", "step_applied", how) for how in ("more", "less")),
    *(("send", "step_sent", how) for how in ("more", "less")),
    *(("start", "step_applied", how) for how in ("more", "less")),
    *(("start", "version_read", how) for how in ("more", "less")),
    *(("end", "step_applied", how) for how in ("more", "less")),
    *(("begin", "num_workers", how) for how in ("more", "less")),
    ("join", "num_workers", "less"),
    *(("send", "child", f"worker {worker}") for worker in range(2)),
    *(("send", "child", f"center {center}") for center in range(2)),
}


def ends(found):
    """The places of the first and of the last event of each who tells."""
    first, last = {}, {}
    for place, event in enumerate(found):
        first.setdefault(event.teller, place)
        last[event.teller] = place
    return {"less": set(first.values()), "more": set(last.values())}


@pytest.mark.parametrize(
    ("name", "timing"),
    [("up_down", SLOW), ("uneven", FAULTY), ("answered", SLOW)],
    ids=["up_down", "uneven", "answered"],
)
def test_one_changed_record_is_found(name, timing):
    found = log(name, timing, 140, most_waiting=1)
    changes = list(stars.changed(found))
    first_last = ends(found)
    sample = random.Random(1).sample(changes, 900)
    missed = {}
    for place, what, changed in sample:
        if not verify(changed):
            missed.setdefault(what, []).append(place)
    assert set(missed) <= NOT_FOUND, missed
    for (_, field, how), places in missed.items():
        if field == "time":
            assert set(places) <= first_last[how], (how, places)
        if field == "child":
            assert min(places) > len(found) / 4
    assert sum(map(len, missed.values())) < 0.05 * len(sample)


@pytest.mark.parametrize("name", ["up_down", "answered"])
def test_a_missing_or_repeated_record_is_found(name):
    found = log(name, SLOW, 150, most_waiting=1)
    seen = set()  # A child that starts forgets what came from above before.
    for place, event in enumerate(found[:90]):
        edge = event.child, event.call
        is_first = event.kind == events.EXCHANGE and edge not in seen
        if is_first:
            seen.add(edge)
            continue
        twice = [*found[: place + 1], *found[place:]]
        if event.kind not in (events.BEGIN, events.START, events.WAIT):
            assert verify(twice), event
        if event.kind in (events.SEND, events.EXCHANGE, events.JOIN):
            assert verify([*found[:place], *found[place + 1 :]]), event


def test_points_in_another_order_are_found():
    found = log("up_down", SLOW, 300, most_waiting=4)
    places = [
        k
        for k, event in enumerate(found)
        if event.kind == events.EXCHANGE
        and (event.teller, event.call) == ("center 1", events.UP)
        and event.child == "worker 0"
    ]
    one, other = places[3:5]
    numbers = found[one].sequence, found[other].sequence
    found[one] = found[one]._replace(sequence=numbers[1])
    found[other] = found[other]._replace(sequence=numbers[0])
    told = " ".join(wrong(found))
    assert f"point {numbers[0]} was sent before, and nobody has told" in told
    assert f"point {numbers[0]} was looked at before" in told


def test_a_clock_of_another_machine_may_be_wrong():
    found = log("up_down", SLOW, 400)
    shifted = [
        e._replace(time=e.time + 3600) if e.teller == "center 1" else e
        for e in found
    ]
    assert wrong(shifted) == []
    place = max(k for k, e in enumerate(found) if e.teller == "center 1")
    found[place] = found[place]._replace(time=found[place].time + 3600)
    late = [e for e in found if e.teller == "center 1"]
    assert wrong(found) == [] or late  # It may have stood still.
    found[place] = found[place]._replace(time=0.0)
    assert "s before what was told before it" in " ".join(wrong(found))


def test_it_is_tabled_drawn_and_followed(tmp_path):
    found = log("uneven", FAULTY, 500, most_waiting=1)
    told = report.of(found)
    assert "center 2: " in told and "died" in told
    status = Status()
    for event in found:
        status(event)
    assert "center 1: version" in status.table()
    numbers = summary.summary(found)
    steps = [e.step_applied for e in found if e.kind == events.END]
    assert numbers.workers == 6
    assert max(steps) < numbers.steps <= 6 * max(steps)
    figure = picture.draw(found)
    lanes = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert lanes[-3:] == ["center 0", "center 1", "center 2"]
    drawn = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"has a parent", "dropped", "applied", "dies"} <= drawn


# Live nodes, in this process.


def told_by(members, told):
    for member in members:
        member.node.events.listen(told.append)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_live_tree_can_have_been_so(seed):
    told = []
    tree = live.Tree(
        live.Direct(), lambda leaf, step, x: x - leaf, told=told.append
    )
    tree.run(live.schedule(seed, 1200))
    assert wrong(told) == []
    kinds = {event.kind for event in told}
    assert {events.ATTACH, events.SEND, events.DROP, events.EXCHANGE} < kinds
    sample = random.Random(seed).sample(list(stars.changed(told[:220])), 300)
    missed = [what for _, what, changed in sample if not verify(changed)]
    assert set(missed) <= NOT_FOUND, missed
