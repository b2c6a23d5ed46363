"""Groups of a local cluster: real processes, of which one dies."""

import signal

import pytest

from tests import cluster_local_test as local_test
from tests.cluster_local_test import DEADLINE_S
from tests.cluster_local_test import WAIT_FOR_FILE
from tests.cluster_local_test import is_running
from tests.cluster_local_test import until
from tf_elastic.cluster.launch import local
from tf_elastic.cluster.launch.configuration import ClusterConfiguration
from tf_elastic.cluster.launch.configuration import members_of_group
from tf_elastic.cluster.launch.configuration import of_groups

cluster = local_test.cluster

# It says that it is there, and waits.
MEMBER = "mark(f'{TASK}.{os.getpid()}.up')\n" + WAIT_FOR_FILE


def are_up(tmp_path, workers):
    return all(
        (tmp_path / f"worker-{w.index}.{w.pid}.up").exists() for w in workers
    )


def test_the_group_of_one_that_dies_is_started_again(cluster, tmp_path, caplog):
    one = cluster(
        MEMBER, 4, 0, workers_per_group=2, restart_workers=True
    ).start()
    workers = one.processes("worker")
    until(lambda: are_up(tmp_path, workers), "workers")
    pids = [worker.pid for worker in workers]
    one.kill("worker", 2)
    until(
        lambda: (
            all(w.pid != pids[w.index] for w in workers[2:])
            and are_up(tmp_path, workers)
        ),
        "second start",
    )
    assert not is_running(pids[3])
    assert [worker.pid for worker in workers[:2]] == pids[:2]
    assert "worker 3 takes each step together with worker 2" in caplog.text
    # Neither was started while the other was there from before.
    for worker, peer in (workers[2:], workers[:1:-1]):
        assert worker.started_s[1] > peer.died_s
    (tmp_path / "go").touch()
    assert one.wait(DEADLINE_S) == 0
    assert [w.exit_codes for w in workers] == [[0], [0], [-9, 0], [-9, 0]]


def test_without_restarts_a_group_ends_and_the_others_do_not(cluster, tmp_path):
    one = cluster(MEMBER, 4, 0, workers_per_group=2).start()
    workers = one.processes("worker")
    until(lambda: are_up(tmp_path, workers), "workers")
    one.kill("worker", 3, signal.SIGTERM)
    until(lambda: all(w.ended for w in workers[2:]), "end of the group")
    assert [w.exit_codes for w in workers[2:]] == [[-9], [-15]]
    (tmp_path / "go").touch()
    assert one.wait(DEADLINE_S) == 0


def test_a_group_of_which_one_is_done_is_not_started_again(cluster, tmp_path):
    code = MEMBER.replace("go", "go-1") + (
        "if INDEX == 2: sys.exit(0)\n" + WAIT_FOR_FILE
    )
    one = cluster(code, 4, 0, workers_per_group=2, restart_workers=True).start()
    workers = one.processes("worker")
    until(lambda: are_up(tmp_path, workers), "workers")
    (tmp_path / "go-1").touch()
    until(lambda: workers[2].ended, "end of worker 2")
    one.kill("worker", 3)
    until(lambda: workers[3].ended, "end of worker 3")
    assert workers[3].restarts == 0
    (tmp_path / "go").touch()
    assert one.wait(DEADLINE_S) == 0


def test_what_makes_no_groups_is_refused(tmp_path):
    for number, said in ((3, "num_workers=4"), (0, "workers_per_group=0")):
        with pytest.raises(ValueError, match=said):
            local.LocalCluster(
                ["true"], 4, 0, tmp_path, workers_per_group=number
            )


def test_one_worker_is_no_group(cluster, tmp_path):
    one = cluster(MEMBER, 2, 0, workers_per_group=2).start()
    with pytest.raises(ValueError, match="workers_per_group=2"):
        one.add_worker()
    (tmp_path / "go").touch()
    assert one.wait(DEADLINE_S) == 0


def test_a_cluster_of_groups_as_centers_see_it():
    workers = tuple(f"w{i}:1" for i in range(6))
    for role, index, group in (("worker", 5, 1), ("worker", 2, 0)):
        alone = ClusterConfiguration(workers, ("c:1",), (), role, index)
        seen = of_groups(alone, 3)
        assert (seen.workers, seen.worker_index) == (("w0:1", "w3:1"), group)
        begin = 3 * group
        assert members_of_group(alone, 3) == workers[begin : begin + 3]
    center = ClusterConfiguration(workers, ("c:1", "d:1"), (), "ps", 1)
    assert of_groups(center, 3).task == "ps 1"
    assert of_groups(center, 1) == center
