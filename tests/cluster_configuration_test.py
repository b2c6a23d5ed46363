"""TF_CONFIG and resolvers: what is read, and what is said of wrong ones."""

import json
import subprocess
import sys

import pytest

from tests import source_tree as tree
from tf_elastic.cluster.launch.configuration import ClusterConfiguration
from tf_elastic.cluster.launch.configuration import ClusterConfigurationError
from tf_elastic.cluster.launch.security import Security

JOBS = {"worker": ["a:1", "b:1"], "ps": ["a:2"]}
TOKEN = "0123456789abcdef"


def text(cluster=None, role="worker", index=0, **more):
    return json.dumps(
        {
            "cluster": JOBS if cluster is None else cluster,
            "task": {"type": role, "index": index},
            **more,
        }
    )


def own_address(config):
    return config.jobs[config.role][config.index]


class Resolver:
    """What the resolvers of TensorFlow have in common."""

    def __init__(self, cluster, task_type=None, task_id=None):
        self.cluster, self.task_type, self.task_id = cluster, task_type, task_id

    def cluster_spec(self):
        return self

    def as_dict(self):
        return self.cluster


def test_a_worker():
    config = ClusterConfiguration.from_tf_config(text(index=1))
    assert config.workers == ("a:1", "b:1")
    assert config.centers == ("a:2",)
    assert config.evaluators == ()
    assert (config.num_workers, config.worker_index) == (2, 1)
    assert (config.task, own_address(config)) == ("worker 1", "b:1")
    assert not config.is_chief
    assert ClusterConfiguration.from_tf_config(text()).is_chief


def test_the_environment(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text(index=1, environment="cloud"))
    assert ClusterConfiguration.from_tf_config().task == "worker 1"


def test_a_chief_is_the_first_worker():
    jobs = {**JOBS, "chief": ["c:1"]}
    read = ClusterConfiguration.from_tf_config
    chief = read(text(jobs, "chief"))
    assert chief.workers == ("c:1", "a:1", "b:1")
    assert chief.is_chief and chief.worker_index == 0
    second = read(text(jobs, "worker", 1))
    assert (second.worker_index, own_address(second)) == (2, "b:1")
    assert not second.is_chief
    alone = read(text({"chief": ["c:1"], "ps": ["a:2"]}, "chief"))
    assert alone.workers == ("c:1",)


def test_a_center_and_an_evaluator():
    read = ClusterConfiguration.from_tf_config
    center = read(text(role="ps"))
    assert (center.worker_index, center.is_chief) == (None, False)
    assert (center.task, own_address(center)) == ("ps 0", "a:2")
    evaluator = read(text(role="evaluator"))
    assert (evaluator.task, evaluator.evaluators) == ("evaluator 0", ())
    named = read(text({**JOBS, "evaluator": ["d:1"]}, "evaluator"))
    assert (named.evaluators, own_address(named)) == (("d:1",), "d:1")


def test_a_cluster_without_centers():
    config = ClusterConfiguration.from_tf_config(
        text({"worker": ["a:1"]}), needs_centers=False
    )
    assert config.centers == ()


def test_back_to_tf_config():
    jobs = {**JOBS, "chief": ["[::1]:1"], "evaluator": ["d:1"]}
    for role in jobs:
        config = ClusterConfiguration.from_tf_config(text(jobs, role))
        again = ClusterConfiguration.from_tf_config(config.to_tf_config())
        assert again == config


def test_a_resolver():
    config = ClusterConfiguration.from_resolver(Resolver(JOBS, "worker", 1))
    assert config == ClusterConfiguration.from_tf_config(text(index=1))


def test_resolvers_of_tensorflow(monkeypatch):
    import tensorflow as tf

    resolvers = tf.distribute.cluster_resolver
    monkeypatch.setenv("TF_CONFIG", text(role="ps"))
    read = ClusterConfiguration.from_resolver
    assert read(resolvers.TFConfigClusterResolver()).task == "ps 0"
    simple = resolvers.SimpleClusterResolver(
        tf.train.ClusterSpec(JOBS), task_type="worker", task_id=1
    )
    assert read(simple).task == "worker 1"
    for name, value in {
        "SLURM_PROCID": "2",
        "SLURM_STEP_NUM_TASKS": "3",
        "SLURM_STEP_NODELIST": "node[1-3]",
        "SLURM_STEP_TASKS_PER_NODE": "1(x3)",
    }.items():
        monkeypatch.setenv(name, value)
    slurm = resolvers.SlurmClusterResolver(
        {"worker": 2, "ps": 1},
        gpus_per_node=1,
        gpus_per_task=1,
        auto_set_gpu=False,
    )
    config = read(slurm)
    # It sorts the jobs by name.
    assert config.centers == ("node1:8888",)
    assert (config.task, own_address(config)) == ("worker 1", "node3:8888")


@pytest.mark.parametrize(
    "resolver",
    [Resolver(JOBS), Resolver({}, "worker", 0), Resolver(JOBS, "worker")],
)
def test_a_resolver_that_knows_too_little(resolver):
    with pytest.raises(ClusterConfigurationError, match="must know") as error:
        ClusterConfiguration.from_resolver(resolver)
    assert "Received: Resolver" in str(error.value)
    assert "TF_CONFIG" in str(error.value)


# (TF_CONFIG, parts of the message)
WRONG = {
    "empty": ("", ["must describe", "Received: ''", "TF_CONFIG='{"]),
    "cut off": (
        text()[:-5],
        ["must be JSON", "line 1, column", "character", "Received"],
    ),
    "comma": (
        '{"cluster": {"worker": ["a:1",]}}',
        ["character 3", "near", '"a:1",]', "no comma"],
    ),
    "a list": ("[1]", ["`cluster`", "Received: [1]"]),
    "null": ("null", ["`cluster`", "Received: None"]),
    "no cluster": ('{"task": {}}', ["`cluster`", "Received: ['task']"]),
    "no task": (json.dumps({"cluster": JOBS}), ["`task`", "['cluster']"]),
    "cluster no object": (
        '{"cluster": "a:1", "task": {"type": "worker", "index": 0}}',
        ["must be an object", "Received: 'a:1'"],
    ),
    "no index": (
        json.dumps({"cluster": JOBS, "task": {"type": "worker"}}),
        ["without `index`", '"index": 0'],
    ),
    "no type": (
        json.dumps({"cluster": JOBS, "task": {"index": 0}}),
        ["without `type`"],
    ),
    "no ps": (text({"worker": ["a:1"]}), ["job 'ps'", "['worker']"]),
    "empty ps": (text({"worker": ["a:1"], "ps": []}), ["job 'ps'"]),
    "no worker": (text({"ps": ["a:1"]}, "ps"), ["job 'worker'", "['ps']"]),
    "unknown job": (text({**JOBS, "master": ["m:1"]}), ["'master'", "chief"]),
    "two chiefs": (
        text({**JOBS, "chief": ["c:1", "c:2"]}, "chief"),
        ["'chief' must have one", "c:2"],
    ),
    "job no list": (text({**JOBS, "ps": "a:2"}), ["'ps'", "Received: 'a:2'"]),
    "type unknown": (text(role="master"), ["type", "'master'", "evaluator"]),
    "type a list": (text(role=["ps"]), ["type", "['ps']"]),
    "type of no job": (text(role="chief"), ["chief 0", "['ps', 'worker']"]),
    "index too high": (
        text(index=2),
        ["worker must be from 0 to 1", "Received: 2", "add the address"],
    ),
    "index negative": (text(index=-1), ["from 0 to 1", "Received: -1"]),
    "index of ps": (text(role="ps", index=1), ["ps must be from 0 to 0"]),
    "index a text": (text(index="1"), ["without quotes", "'1'"]),
    "index a bool": (text(index=True), ["an integer", "True"]),
    "index a number": (text(index=1.5), ["an integer", "1.5"]),
    "no port": (text({**JOBS, "ps": ["a"]}), ["ps 0", "host:port", "'a'"]),
    "no host": (text({**JOBS, "ps": [":1"]}), ["ps 0", "':1'"]),
    "scheme": (text({**JOBS, "ps": ["grpc://a:1"]}), ["without a scheme"]),
    "space": (text({**JOBS, "ps": ["a :1"]}), ["without spaces", "'a :1'"]),
    "address no text": (text({**JOBS, "ps": [1]}), ["ps 0", "Received: 1"]),
    "port zero": (text({**JOBS, "ps": ["a:0"]}), ["1 to 65535", "'0'"]),
    "port high": (text({**JOBS, "ps": ["a:70000"]}), ["65535", "'70000'"]),
    "port no number": (text({**JOBS, "ps": ["a:x"]}), ["'x' in 'a:x'"]),
    "IPv6 bare": (text({**JOBS, "ps": ["fd00::7:1"]}), ["in brackets"]),
    "twice in a job": (
        text({**JOBS, "worker": ["a:1", "a:1"]}),
        ["a:1 for both worker 0 and worker 1", "another port"],
    ),
    "twice in two jobs": (
        text({**JOBS, "ps": ["B:1"]}),
        ["B:1 for both worker 1 and ps 0"],
    ),
}


@pytest.mark.parametrize(("config", "parts"), WRONG.values(), ids=WRONG)
def test_a_wrong_tf_config_says_what_to_do(config, parts):
    with pytest.raises(ClusterConfigurationError) as error:
        ClusterConfiguration.from_tf_config(config)
    message = str(error.value)
    for part in [*parts, "Received"]:
        assert part in message


def test_no_tf_config(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ClusterConfigurationError, match="Received: nothing"):
        ClusterConfiguration.from_tf_config()


def test_a_configuration_made_by_hand_is_checked():
    with pytest.raises(ClusterConfigurationError, match="from 0 to 0"):
        ClusterConfiguration(("a:1",), ("a:2",), (), "worker", 1)
    with pytest.raises(ClusterConfigurationError, match="host:port"):
        ClusterConfiguration(("a",), ("a:2",), (), "worker", 0)


# What keeps others out.

VARIABLES = ["TOKEN", "TLS_CERT", "TLS_KEY", "TLS_CA", "TRUSTED_NETWORK"]


@pytest.fixture
def environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(f"TF_ELASTIC_{name}", raising=False)

    def set_all(**values):
        for name, value in values.items():
            monkeypatch.setenv(f"TF_ELASTIC_{name}", str(value))

    return set_all


def test_no_security(environment):
    assert Security.from_environment() == Security(None, None, None, None)


def test_all_of_security(environment, tmp_path):
    paths = []
    for name in ("cert", "key", "ca"):
        paths.append(tmp_path / f"{name}.pem")
        paths[-1].touch()
    environment(
        TOKEN=TOKEN,
        TLS_CERT=paths[0],
        TLS_KEY=paths[1],
        TLS_CA=paths[2],
        TRUSTED_NETWORK="1",
    )
    security = Security.from_environment()
    assert security == Security(TOKEN, *map(str, paths), True)
    assert TOKEN not in repr(security)


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"TOKEN": ""}, ["at least 16", "0 characters", "openssl rand"]),
        ({"TOKEN": "short"}, ["at least 16", "5 characters"]),
        ({"TOKEN": "x" * 20 + "\n"}, ["printable"]),
        ({"TOKEN": "x" * 20 + "é"}, ["ASCII"]),
        ({"TLS_CERT": "here.pem"}, ["together", "here.pem", "key=None"]),
        ({"TLS_KEY": "here.pem"}, ["together", "certificate=None"]),
        ({"TLS_CA": "no/ca.pem"}, ["TF_ELASTIC_TLS_CA", "'no/ca.pem'"]),
        ({"TRUSTED_NETWORK": "yes"}, ["0 or 1", "'yes'"]),
    ],
)
def test_wrong_security_says_what_to_do(environment, values, parts):
    environment(**values)
    with pytest.raises(ClusterConfigurationError) as error:
        Security.from_environment()
    for part in [*parts, "Received"]:
        assert part in str(error.value)
    assert values.get("TOKEN") in ("", None) or (
        values["TOKEN"] not in str(error.value)
    )


def test_neither_tensorflow_nor_numpy_is_needed():
    code = (
        "import sys\n"
        "from tf_elastic.cluster.launch import configuration, local\n"
        "from tf_elastic.cluster.transport import addresses\n"
        "slow = {'tensorflow', 'keras', 'numpy', 'grpc'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tree.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
