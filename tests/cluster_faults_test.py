"""Workers and servers in one process, over real gRPC, when something fails."""

import concurrent.futures
import contextlib
import logging
import re
import threading

import numpy as np
import pytest

from tests import cluster_support as support
from tests.cluster_support import until
from tests.process_support import self_signed
from tf_elastic import core
from tf_elastic import version
from tf_elastic.cluster import errors
from tf_elastic.cluster import layout
from tf_elastic.cluster.center.server import CenterServer
from tf_elastic.cluster.launch.security import Security
from tf_elastic.cluster.transport import wire
from tf_elastic.cluster.transport.addresses import PublicAddressError

# Where something is meant to fail.
SHORT = support.PATIENT._replace(exchange_s=3.0, control_s=3.0, heartbeat_s=0.1)
# Heartbeats do not come between.
SILENT = support.PATIENT._replace(heartbeat_s=1000.0)


@pytest.fixture
def cluster():
    made = []

    def make(*args, **options):
        made.append(support.Cluster(*args, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def joined(center, worker=0, value=0.0, **options):
    """A client that has joined, with `value` everywhere."""
    made = center.client(worker, **options)
    made.join(center.layout, support.values(value))
    return made


def in_thread(call, *args):
    """Begins a call in a thread; `result(timeout)` of what it returns."""
    pool = concurrent.futures.ThreadPoolExecutor(1)
    try:
        return pool.submit(call, *args)
    finally:
        pool.shutdown(wait=False)


@contextlib.contextmanager
def frozen(shard):
    """The server takes calls and answers none, as if it was stopped."""
    with shard.changed:
        yield


def messages(caplog, words):
    return [r.message for r in caplog.records if words in r.getMessage()]


@pytest.fixture(autouse=True)
def _all_is_logged(caplog):
    with caplog.at_level(logging.INFO, logger="absl"):
        yield


# A server goes away.


def test_a_center_without_memory_gets_that_of_the_freshest(cluster):
    center = cluster(1)
    stale = joined(center, 0, timeouts=SILENT)
    fresh = joined(center, 1, timeouts=SHORT)
    for _ in range(3):
        fresh.exchange(support.values(1.0), support.rates)
    assert stale.sessions[0].news.version < 3
    assert fresh.sessions[0].news.version >= 3
    center.servers[0].stop(0.0)
    # Time enough for both to be asked.
    center.serve(0, support.new_node(0, 1, grace_s=1.0))
    call = in_thread(stale.exchange, support.values(5.0), support.rates)
    until(lambda: ready(center.shards[0], fresh))
    call.result(60)
    # Worker 1's parameters, moved by what worker 0 has pushed since, if it
    # has, for the p that it knew.
    assert center.shards[0].version >= 3
    moved = {core.push(7.0, -2.0, support.BETA, p) for p in (1, 2)}
    assert set(center.shards[0].arrays[0]) <= {7.0, *moved}


def ready(shard, worker):
    """Whether a shard is filled; lets the worker exchange until it is."""
    if shard.arrays is None:
        worker.exchange(support.values(7.0), support.rates)
    return shard.arrays is not None


def test_the_chief_begins_a_new_cluster_whoever_comes_first(cluster):
    center = cluster(2, grace_s=0.1)
    others = [center.client(i, 3, chief=False) for i in (0, 1)]
    calls = [
        in_thread(each.join, center.layout, support.values(1.0))
        for each in others
    ]
    until(lambda: all(len(s.registry.present) == 2 for s in center.shards))
    until(lambda: all(len(s.election._made) == 2 for s in center.shards))
    chief = joined(center, 2, 4.0, chief=True)
    for call in calls:
        assert call.result(60)[0][0] == 4.0
    assert center.center()[0][0] == 4.0
    assert chief.sessions[0].news.version == 0


def test_one_of_two_servers_away_is_left_out_and_comes_back(cluster, caplog):
    center = cluster(2)
    worker = joined(center, timeouts=SHORT)
    center.servers[1].stop(0.0)
    # Heartbeats may have seen it before the exchange does.
    first = worker.exchange(support.values(1.0), support.rates)
    second = worker.exchange(support.values(1.0), support.rates)
    cut = center.layout.cut(center.layout.sections[0], 1)
    for moved in (first, second):
        assert not moved.restart
        assert (moved.arrays[0][: cut.start] != 0).all()
        assert (moved.arrays[0][cut] == 0).all()
    assert center.shards[0].applied == 2
    assert worker.counts.missed == 2
    center.serve(1)
    until(lambda: worker.sessions[1].away_since is None)
    third = worker.exchange(support.values(1.0), support.rates)
    assert (third.arrays[0] != 0).all()
    assert center.shards[1].applied == 1
    assert len(messages(caplog, "trains on without it")) == 1
    [back] = messages(caplog, "is back after")
    assert "worker 0 missed 2 exchanges with it." in back
    assert worker.counts.missed == 2
    assert worker.counts.lost_halves == 0


def test_a_server_that_does_not_answer_is_waited_for_once(
    cluster, caplog, monkeypatch
):
    center = cluster(2)
    patience_s = 3.0
    worker = joined(
        center,
        timeouts=SILENT._replace(exchange_s=patience_s, control_s=patience_s),
    )
    with frozen(center.shards[0]):
        with pytest.raises(errors.CenterUnavailableError, match="center 0"):
            worker.read()
        asked = []
        for name in ("call", "stream"):
            monkeypatch.setattr(
                worker.sessions[0].connection,
                name,
                lambda *args, **kwargs: asked.append(args),
            )
        for _ in range(20):
            with pytest.raises(errors.CenterUnavailableError, match="is away"):
                worker.read()
            assert worker.status()[0] is None
            worker.exchange(support.values(1.0), support.rates)
        assert not asked
        monkeypatch.undo()
    assert center.shards[1].applied == 20
    assert len(messages(caplog, "trains on without it")) == 1


@pytest.mark.parametrize("do", ["exchange", "meet"])
def test_a_half_that_was_lost_is_counted(cluster, do):
    center = cluster(1)
    worker = joined(center, timeouts=SHORT)
    with frozen(center.shards[0]):
        moved = getattr(worker, do)(support.values(1.0), support.rates)
        assert not moved.arrays[0].any()
    assert worker.counts.missed == 1
    # What had left the worker is applied late, or not at all if the server
    # had not yet got all of it.
    until(lambda: worker.sessions[0].away_since is None)
    before = center.shards[0].applied
    while worker.counts.exchanges == 0:
        until(lambda: worker.sessions[0].away_since is None)
        getattr(worker, do)(support.values(1.0), support.rates)
    assert center.shards[0].applied >= before + 1
    assert worker.counts.lost_halves == center.shards[0].applied - 1
    assert worker.counts.forgotten == 0


def test_a_center_set_back_has_forgotten(cluster):
    center = cluster(1)
    worker = joined(center, timeouts=SHORT)
    worker.exchange(support.values(1.0), support.rates)
    state, arrays = center.shards[0].snapshot()
    for _ in range(2):
        worker.exchange(support.values(1.0), support.rates)
    center.servers[0].stop(0.0)
    restored = support.new_node(0, 1)
    restored.restore(state, arrays)
    center.serve(0, restored)
    until(
        lambda: (
            worker.exchange(support.values(1.0), support.rates)
            and restored.applied
        )
    )
    assert worker.counts.forgotten == 2
    assert worker.counts.lost_halves == 0
    assert worker.sessions[0].news.version == 1 + restored.applied


def test_a_center_begun_anew_has_forgotten_all(cluster):
    center = cluster(1)
    worker = joined(center, timeouts=SHORT)
    for _ in range(3):
        worker.exchange(support.values(1.0), support.rates)
    center.servers[0].stop(0.0)
    empty = support.new_node(0, 1, grace_s=0.02)
    center.serve(0, empty)
    until(
        lambda: (
            worker.exchange(support.values(1.0), support.rates)
            and empty.applied
        )
    )
    assert worker.counts.forgotten == 3
    assert worker.counts.lost_halves == 0


def test_a_server_that_begins_anew_while_a_worker_joins(cluster):
    center = cluster(2)
    chief = center.client(0, chief=False, timeouts=SHORT)
    call = in_thread(chief.join, center.layout, support.values(2.0))
    until(lambda: center.shards[1].registry.present == [0])
    center.servers[1].stop(0.0)
    center.serve(1, support.new_node(1, 2, grace_s=0.02))
    until(lambda: center.shards[1].registry.present == [0])
    for session in chief.sessions:
        session.identity = session.identity._replace(is_chief=True)
    assert call.result(60)[0][0] == 2.0
    assert (center.center()[0] == 2.0).all()


def test_a_server_that_starts_late_is_waited_for(cluster):
    center = cluster(2)
    center.servers[1].stop(0.0)
    worker = center.client(0, timeouts=SHORT)
    call = in_thread(worker.join, center.layout, support.values(2.0))
    until(lambda: center.shards[0].arrays is not None)
    center.serve(1)
    assert call.result(60)[0][0] == 2.0


def test_a_server_that_never_starts_is_named(cluster):
    center = cluster(2)
    center.servers[1].stop(0.0)
    worker = center.client(0, timeouts=SHORT._replace(join_s=0.5))
    with pytest.raises(
        errors.CenterUnavailableError,
        match=rf"worker 0 waited .* center 1 \({center.centers[1]}\), in "
        r"\d+ attempts",
    ):
        worker.join(center.layout, support.values(2.0))


# A worker loses its slot, or its place.


def lose_slot(shard, worker):
    """What the shard's clock would do."""
    shard.registry.members[worker].present = False


def test_a_worker_that_lost_its_slot_begins_again_from_the_center(cluster):
    center = cluster(2)
    worker = joined(center, value=3.0, timeouts=SILENT)
    worker.clock = worker.samples = 10
    worker.exchange(support.values(3.0), support.rates)
    lose_slot(center.shards[1], 0)
    moved = worker.exchange(support.values(9.0), support.rates)
    assert moved.restart
    # Server 0 had taken its part of that exchange: a half that is lost.
    expected = core.push(3.0, 6.0, support.BETA, 1)
    cut = center.layout.cut(center.layout.sections[0], 1)
    assert (moved.arrays[0][: cut.start] == expected).all()
    assert (moved.arrays[0][cut] == 3.0).all()
    assert worker.counts.lost_halves == worker.counts.restarts == 1
    assert worker.sessions[0].incarnation == 2
    again = worker.exchange(moved.arrays, support.rates)
    assert not again.restart
    assert not again.arrays[0].any()
    # Not 20: it is the same process.
    assert worker.samples_of_others + worker.samples == 10


def test_beginning_again_does_not_wait_for_a_server_that_is_away(cluster):
    center = cluster(2)
    endless = SILENT._replace(exchange_s=600.0, join_s=600.0)
    worker = joined(center, value=3.0, timeouts=endless)
    center.servers[1].stop(0.0)
    worker.exchange(support.values(3.0), support.rates)
    lose_slot(center.shards[0], 0)
    call = in_thread(worker.exchange, support.values(9.0), support.rates)
    moved = call.result(60)
    assert moved.restart
    cut = center.layout.cut(center.layout.sections[0], 1)
    assert (moved.arrays[0][: cut.start] == 3.0).all()
    assert (moved.arrays[0][cut] == 9.0).all()


def test_a_newer_process_takes_the_place(cluster):
    center = cluster(1)
    older = joined(center, 0, timeouts=SILENT)
    newer = joined(center, 0, timeouts=SILENT)
    assert newer.sessions[0].incarnation == 2
    with pytest.raises(errors.ReplacedError, match="incarnation 2 has taken"):
        older.exchange(support.values(1.0), support.rates)
    newer.exchange(support.values(1.0), support.rates)
    # Nor on the way of a center that has lost its memory.
    center.servers[0].stop(0.0)
    center.serve(0, support.new_node(0, 1, grace_s=0.02))
    for each in (older, newer):
        # That of the newer process outlasts it, whoever comes first.
        until(lambda link=each.sessions[0]: reached(link))
    until(lambda: rejoined(older, center))
    until(lambda: rejoined(newer, center))
    with pytest.raises(errors.ReplacedError):
        older.exchange(support.values(1.0), support.rates)


def reached(link):
    """Whether a link's server answers."""
    try:
        return link.connection.call(wire.HELLO, 1.0, worker=None)
    except errors.CenterUnavailableError:
        return False


def rejoined(worker, center):
    [session] = worker.sessions
    session.join(support.values(1.0), session.patience())
    known = center.shards[0].registry.last_incarnation(0)
    return known == session.incarnation


def test_the_heartbeat_tells_that_it_is_replaced(cluster):
    center = cluster(1)
    older = joined(center, 0, timeouts=SHORT)
    joined(center, 0, timeouts=SHORT)
    until(lambda: older.failure is not None)
    with pytest.raises(errors.ReplacedError):
        older.exchange(support.values(1.0), support.rates)


def test_a_heartbeat_of_an_earlier_life_does_no_harm(cluster):
    center = cluster(1)
    worker = joined(center, timeouts=SILENT)
    link, shard = worker.sessions[0], center.shards[0]
    with frozen(shard):
        beat = in_thread(worker.signal)
        # The server hears of the next life first.
        link.incarnation = 2
        shard.join(
            0, 2, 1, center.layout.describe(), link.identity.process, previous=1
        )
    beat.result(60)
    assert worker.failure is None
    worker.exchange(support.values(1.0), support.rates)


def test_a_silent_workers_slot_is_free_after_its_lease(cluster):
    center = cluster(1, lease_s=1.0)
    stays = joined(center, 0, timeouts=SHORT)
    joined(center, 1, timeouts=SILENT)
    until(lambda: center.shards[0].registry.present == [0])
    stays.read()
    moved = stays.exchange(support.values(1.0), support.rates)
    assert moved.moving_rate == support.BETA


# At most once.


@pytest.mark.parametrize("name", [wire.PUSH, wire.EXCHANGE, wire.DEPOSIT])
def test_the_same_message_twice_is_refused(cluster, name):
    center = cluster(1)
    worker = joined(center, timeouts=SILENT)
    header = {
        "id": {
            "worker": 0,
            "incarnation": 1,
            "sequence": 1,
            "version_read": 0,
        },
        "rate": {"beta": 0.5, "num_workers": 1},
    }
    if name == wire.EXCHANGE:
        header.update(codec="none", whole=True)

    def send():
        worker.sessions[0].connection.stream(
            name,
            20.0,
            header,
            support.values(1.0),
            () if name == wire.PUSH else center.layout.empty(),
        )

    send()
    before = center.center()
    assert before[0][0] == 0.5
    with pytest.raises(errors.DuplicatePushError, match="applied before"):
        send()
    np.testing.assert_array_equal(center.center()[0], before[0])
    assert center.shards[0].applied == 1


@pytest.mark.parametrize(
    "sent", [[], [np.zeros(5)], [*support.values(), np.zeros(5)]]
)
def test_a_message_of_another_length_changes_nothing(cluster, sent):
    center = cluster(1)
    worker = joined(center, timeouts=SILENT)
    header = {
        "id": {"worker": 0, "incarnation": 1, "sequence": 1, "version_read": 0},
        "rate": {"beta": 0.5, "num_workers": 1},
    }
    with pytest.raises(errors.MessageError):
        worker.sessions[0].connection.stream(wire.PUSH, 20.0, header, sent)
    with pytest.raises(errors.MessageError):
        worker.sessions[0].connection.stream(wire.PUSH, 20.0, {}, sent)
    with pytest.raises(errors.MessageError):
        worker.sessions[0].connection.call(wire.JOIN, 20.0, nonsense=1)
    assert not center.center()[0].any()
    worker.exchange(support.values(1.0), support.rates)


# NaN and infinity.


@pytest.mark.parametrize("codec", ["none", "int8", "bfloat16"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("first", [True, False])
def test_what_is_not_finite_is_named(cluster, codec, bad, first):
    center = cluster(1)
    worker = joined(center, 0, 1.0, codec=codec, timeouts=SILENT)
    if not first:
        worker.exchange(support.values(1.0), support.rates)
    before = [array.tobytes() for array in center.center()]
    sent = support.values(2.0)
    sent[0][13] = bad
    with pytest.raises(
        errors.NonFiniteError, match=f"worker 0 sent {bad} in 'bias'"
    ):
        worker.exchange(sent, support.rates)
    assert [array.tobytes() for array in center.center()] == before


@pytest.mark.parametrize("codec", ["int8", "bfloat16"])
def test_a_reference_that_the_center_lost_is_sent_again(cluster, codec):
    center = cluster(2)
    worker = joined(center, 0, 1.0, codec=codec, timeouts=SILENT)
    generator = np.random.default_rng(3)
    for _ in range(3):
        worker.exchange(support.values(generator), support.rates)
    center.shards[1].exchanges.references.pop(0)
    before, sent = center.center(), support.values(generator)
    moved = worker.exchange(sent, support.rates)
    for a, b, c in zip(center.center(), before, moved.arrays, strict=True):
        np.testing.assert_array_equal(a, core.push(b, c, support.BETA, 1))
    assert worker.counts.missed == 0
    assert center.shards[1].applied == 4
    # From then on compressed again.
    bytes_sent = worker.sessions[1].connection.bytes_sent
    worker.exchange(sent, support.rates)
    sizes = center.layout.shard_sizes(1)
    sent = worker.sessions[1].connection.bytes_sent
    assert sent < bytes_sent + 8 * sum(sizes)


# Synchronous.


def test_whoever_does_not_come_is_named_and_left_out(cluster, caplog):
    center = cluster(2)
    first = joined(center, 0, timeouts=SHORT._replace(barrier_s=0.3))
    joined(center, 1, timeouts=SHORT)
    first.read()  # p is told.
    moved = first.meet(support.values(1.0), support.rates)
    assert moved.arrays[0].all()
    assert center.center()[0][0] == support.BETA / 2
    assert len(messages(caplog, "waited 0.3 s for worker(s) 1 at")) == 2


def test_a_round_that_the_center_forgot_is_repeated(cluster):
    center = cluster(1)
    workers = [joined(center, i, timeouts=SHORT) for i in (0, 1)]
    early = in_thread(workers[0].meet, support.values(1.0), support.rates)
    until(lambda: not center.shards[0].rounds.missing([0]))
    state, arrays = center.shards[0].snapshot()
    center.servers[0].stop(0.0)
    restored = support.new_node(0, 1)
    restored.restore(state, arrays)
    center.serve(0, restored)
    early.result(60)  # It missed this one.
    assert workers[0].counts.missed == 1
    until(lambda: all(w.sessions[0].away_since is None for w in workers))
    for each in workers:
        each.read()  # p is told.
    calls = [
        in_thread(each.meet, support.values(1.0), support.rates)
        for each in workers
    ]
    for call in calls:
        assert call.result(60).arrays[0].all()
    assert center.center()[0][0] == support.BETA


# Leaving.


def test_leaving_during_an_exchange(cluster):
    center = cluster(2)
    worker = joined(center, timeouts=SHORT)
    with frozen(center.shards[0]):
        call = in_thread(worker.exchange, support.values(1.0), support.rates)
        until(lambda: worker.sessions[0].standing.pushing)
        worker.leave()
        moved = call.result(60)
        assert not moved.restart
    worker.leave()  # Once more does nothing.
    until(lambda: not center.shards[1].registry.present)


def test_leaving_while_joining_ends_the_waiting(cluster):
    center = cluster(1)
    worker = center.client(0, chief=False)
    call = in_thread(worker.join, center.layout, support.values(1.0))
    until(lambda: center.shards[0].registry.present)
    worker.leave()
    with pytest.raises(errors.CenterUnavailableError):
        call.result(60)


# Who is refused.

OTHERS = {
    "shape": layout.Layout(
        (*support.VARIABLES[:2], support.VARIABLES[2]._replace(shape=(8,)))
        + support.VARIABLES[3:],
        2,
    ),
    "dtype": layout.Layout(
        [v._replace(dtype="float32") for v in support.VARIABLES], 2
    ),
    "fewer": layout.Layout(support.VARIABLES[:3], 2),
    "shards": layout.Layout(support.VARIABLES, 3),
}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ("shape", r"variable 2 is 'bias' float64\[7\] at the center"),
        ("dtype", r"'kernel' float32\[3, 4\] at the worker"),
        ("fewer", "has 4 variables, the worker's 3"),
        ("shards", "one of 2 center servers.*num_shards=3"),
    ],
)
def test_another_model_is_refused_at_once(cluster, other, words):
    center = cluster(2)
    worker = joined(center, timeouts=SILENT)
    stranger = center.client(1)
    flat = OTHERS[other].zeros()
    with pytest.raises(errors.CenterRefusedError, match=words):
        stranger.join(OTHERS[other], flat)
    worker.exchange(support.values(1.0), support.rates)
    assert center.shards[0].registry.present == [0]


def test_the_others_are_told_of_a_refusal(cluster, caplog):
    center = cluster(1)
    worker = joined(center, timeouts=SILENT)
    layouts = layout.Layout(support.VARIABLES[:3], 1)
    with pytest.raises(errors.CenterRefusedError):
        center.client(7).join(layouts, layouts.zeros())
    refused = "Center 0 cannot take worker 7"
    before = len(messages(caplog, refused))
    for _ in range(2):  # Once is enough to say it.
        worker.exchange(support.values(1.0), support.rates)
    assert len(messages(caplog, refused)) == before + 1


def test_another_release_is_refused(cluster, monkeypatch):
    center = cluster(1)
    joined(center)
    monkeypatch.setattr(version, "__version__", "0.0.1")
    with pytest.raises(
        errors.CenterRefusedError, match="tf_elastic is .* 0.0.1 at the worker"
    ):
        joined(center, 1)


def test_refused_by_one_does_not_wait_for_the_other(cluster):
    center = cluster(2)
    joined(center, timeouts=SILENT)
    center.servers[1].stop(0.0)
    stranger = center.client(1, timeouts=SILENT._replace(join_s=600.0))
    call = in_thread(stranger.join, OTHERS["shape"], OTHERS["shape"].zeros())
    with pytest.raises(errors.CenterRefusedError, match="variable 2"):
        call.result(60)


def test_addresses_in_another_order_are_refused(cluster):
    center = cluster(2)
    center.centers.reverse()
    with pytest.raises(errors.CenterRefusedError, match="the same order"):
        joined(center)


@pytest.mark.parametrize("token", [None, "another-secret-of-16"])
def test_a_wrong_token_is_refused(cluster, token):
    center = cluster(1, security=Security(token="a-secret-of-more-than-16"))
    joined(center).exchange(support.values(1.0), support.rates)
    with pytest.raises(errors.CenterRefusedError, match="TF_ELASTIC_TOKEN"):
        joined(center, 1, security=Security(token=token))
    stranger = center.client(None, security=Security(token=token))
    with pytest.raises(errors.CenterRefusedError, match="TF_ELASTIC_TOKEN"):
        stranger.look(center.layout)
    assert center.shards[0].registry.present == [0]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    return self_signed(tmp_path_factory.mktemp("tls"))


def test_tls(cluster, certificate):
    path, key = certificate
    token = "a-secret-of-more-than-16"
    center = cluster(1, security=Security(token, path, key))
    worker = joined(center, security=Security(token, authority=path))
    worker.exchange(support.values(1.0), support.rates)
    assert center.center()[0][0] == support.BETA
    hurried = support.PATIENT._replace(join_s=0.5)
    with pytest.raises(errors.CenterUnavailableError):
        joined(center, 1, security=Security(token), timeouts=hurried)


def test_tls_asks_workers_for_certificates_too(cluster, certificate):
    path, key = certificate
    center = cluster(1, security=Security(None, path, key, path))
    joined(center, security=Security(None, path, key, path))
    hurried = support.PATIENT._replace(join_s=0.5)
    with pytest.raises(errors.CenterUnavailableError):
        joined(center, 1, security=Security(authority=path), timeouts=hurried)


def test_a_public_address_is_refused():
    with pytest.raises(PublicAddressError, match="8.8.8.8:2222"):
        CenterServer(support.new_node(), "8.8.8.8:2222", Security())


def test_a_port_in_use_is_refused(cluster):
    center = cluster(1)
    with pytest.raises(
        OSError, match=f"Center 0 cannot listen on {center.centers[0]}"
    ):
        CenterServer(support.new_node(), center.centers[0], Security())


# Somebody who only looks.


def test_a_look_takes_no_slot(cluster):
    center = cluster(2)
    looker = center.client(None, timeouts=SHORT)
    with pytest.raises(errors.CenterEmptyError):
        looker.look(center.layout)
    worker = joined(center, value=3.0, timeouts=SILENT)
    assert (looker.look(center.layout)[0] == 3.0).all()
    assert center.shards[0].registry.present == [0]
    # Nor does a worker need one to read.
    lose_slot(center.shards[0], 0)
    assert (worker.read()[0] == 3.0).all()
    center.servers[0].stop(0.0)
    with pytest.raises(errors.CenterUnavailableError):
        looker.look(center.layout)
    status = looker.status()
    assert status[0] is None
    assert status[1]["version"] == 0


def test_two_calls_of_a_client_at_once(cluster):
    center = cluster(2)
    worker = joined(center, value=3.0, timeouts=SHORT)
    stop = threading.Event()

    def look():
        while not stop.is_set():
            assert worker.read()[0].all()

    looking = in_thread(look)
    for _ in range(20):
        worker.exchange(support.values(3.0), support.rates)
    stop.set()
    looking.result(60)
    assert re.fullmatch("[0-9a-f]{32}", worker.sessions[0].identity.process)
