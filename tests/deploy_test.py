"""Slurm and Kubernetes: what can be checked without a cluster."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests import source_tree as tree
from tf_elastic.cluster.launch import kubernetes
from tf_elastic.cluster.launch import slurm
from tf_elastic.cluster.launch import task
from tf_elastic.cluster.launch.configuration import ClusterConfiguration
from tf_elastic.cluster.launch.configuration import ClusterConfigurationError
from tf_elastic.cluster.launch.security import Security

MANIFESTS = tree.ROOT / "deploy" / "kubernetes"
SBATCH = tree.ROOT / "deploy" / "slurm" / "train.sbatch"

# Slurm.


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("node7", ["node7"]),
        ("a,b-2", ["a", "b-2"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[08-10,12]", ["n08", "n09", "n10", "n12"]),
        ("n[1,3],m[2-3].x", ["n1", "n3", "m2.x", "m3.x"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
    ],
)
def test_nodes(text, nodes):
    assert slurm.expand_nodes(text) == nodes


@pytest.mark.parametrize(
    ("text", "counts"),
    [("2", [2]), ("2,1", [2, 1]), ("2(x3),1", [2, 2, 2, 1])],
)
def test_counts(text, counts):
    assert slurm.expand_counts(text) == counts


@pytest.mark.parametrize("text", ["", "n[1-3", "n[a-b]", "n[]"])
def test_nodes_that_are_not_understood(text):
    with pytest.raises(ClusterConfigurationError, match="Received: "):
        slurm.expand_nodes(text)


@pytest.mark.parametrize("text", ["", "2x3", "2(x)", "-1"])
def test_counts_that_are_not_understood(text):
    with pytest.raises(ClusterConfigurationError, match=r"2\(x3\),1.*Receiv"):
        slurm.expand_counts(text)


def step(role, index, *, nodes="n[1-2]", here=None, ntasks=None, **more):
    """The variables of one task, of 4 workers and 2 centers on 2 nodes."""
    worker = role == "worker"
    return {
        "SLURM_JOB_ID": "1234",
        "SLURM_JOB_NODELIST": nodes,
        "SLURM_STEP_NODELIST": nodes,
        "SLURM_STEP_TASKS_PER_NODE": "2(x2)" if worker else "1(x2)",
        "SLURM_STEP_NUM_TASKS": str(ntasks or (4 if worker else 2)),
        "SLURM_PROCID": str(index),
        "SLURMD_NODENAME": here
        or (f"n{index // 2 + 1}" if worker else f"n{index % 2 + 1}"),
        **more,
    }


def test_tasks_of_slurm():
    configs = [
        ClusterConfiguration.from_tf_config(
            slurm.configure(step(role, i), role, 4, 2).to_tf_config()
        )
        for role, count in (("worker", 4), ("ps", 2))
        for i in range(count)
    ]
    assert [c.task for c in configs] == [
        *(f"worker {i}" for i in range(4)),
        "ps 0",
        "ps 1",
    ]
    # Centers are found at the same places by all.
    [centers] = {c.centers for c in configs}
    assert [a.split(":")[0] for a in centers] == ["n1", "n2"]
    workers = configs[0].workers
    assert [a.split(":")[0] for a in workers] == ["n1", "n1", "n2", "n2"]
    ports = [int(a.split(":")[1]) for a in centers + workers]
    assert len(set(ports)) == 6
    assert all(20_000 <= port < 32_768 for port in ports)


def test_jobs_of_slurm_have_other_ports():
    first, second = (
        slurm.configure(step("ps", 0, SLURM_JOB_ID=job), "ps", 4, 2)
        for job in ("1234", "1235")
    )
    assert not set(first.centers) & set(second.centers)
    chosen = slurm.configure(step("ps", 0), "ps", 4, 2, port=5000)
    assert chosen.centers == ("n1:5000", "n2:5001")


def test_more_centers_than_nodes():
    variables = step("ps", 2, here="n1", ntasks=3)
    config = slurm.configure(variables, "ps", 4, 3)
    hosts = [address.split(":")[0] for address in config.centers]
    assert hosts == ["n1", "n2", "n1"]


def test_slurm_without_centers():
    config = slurm.configure(step("worker", 3), "worker", 4, 0)
    assert (config.centers, config.task) == ((), "worker 3")


@pytest.mark.parametrize("name", sorted(step("worker", 0)))
def test_a_variable_of_slurm_that_is_missing(name):
    variables = step("worker", 0)
    del variables[name]
    with pytest.raises(ClusterConfigurationError, match=name) as error:
        slurm.configure(variables, "worker", 4, 2)
    assert "by srun" in str(error.value)


@pytest.mark.parametrize(
    ("variables", "role", "parts"),
    [
        (step("ps", 0, SLURM_PROCID="x"), "ps", ["SLURM_PROCID", "'x'"]),
        (step("ps", 0, ntasks=1), "ps", ["1 tasks of srun", "--ntasks=2"]),
        (
            step("worker", 0, SLURM_STEP_TASKS_PER_NODE="4"),
            "worker",
            ["equally many nodes", "2 and 1"],
        ),
        (
            step("ps", 1, here="n1"),
            "ps",
            ["ps 1 on n1", "cyclic", "--nodes=2 --relative=0"],
        ),
        (
            step("worker", 1, here="n2"),
            "worker",
            ["worker 1 on n2", "--distribution=block"],
        ),
    ],
)
def test_steps_of_another_form(variables, role, parts):
    with pytest.raises(ClusterConfigurationError) as error:
        slurm.configure(variables, role, 4, 2)
    for part in [*parts, "Received"]:
        assert part in str(error.value)


def run(*args, **variables):
    return subprocess.run(
        args,
        cwd=tree.ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


MODULE = [sys.executable, "-m", "tf_elastic.cluster.launch.slurm"]
ROLE = ["--role=worker", "--workers=4", "--ps=2"]


def test_the_module_of_slurm():
    result = run(*MODULE, *ROLE, **step("worker", 1))
    assert result.returncode == 0, result.stderr
    config = ClusterConfiguration.from_tf_config(result.stdout)
    assert config.task == "worker 1"

    show = "import os; print(os.environ['TF_CONFIG'])"
    command = ["--", sys.executable, "-c", show]
    became = run(*MODULE, *ROLE, *command, **step("worker", 1))
    assert became.stdout == result.stdout

    wrong = run(*MODULE, *ROLE, **step("worker", 9))
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "Traceback" not in wrong.stderr
    missing = run(*MODULE, *ROLE, "--", "no-such-one", **step("worker", 1))
    assert missing.returncode == 127
    assert "no-such-one cannot be run" in missing.stderr


def test_what_a_task_runs():
    jobs = (("a:1",), ("a:2", "a:3"), ())
    worker = ClusterConfiguration(*jobs, "worker", 0)
    assert task.command_of(worker, ["x", "y"], "dir") == ["x", "y"]
    center = ClusterConfiguration(*jobs, "ps", 1)
    serve = [sys.executable, "-m", "tf_elastic.cluster.ps"]
    assert task.command_of(center, ["x"]) == serve
    assert task.command_of(center, ["x"], "dir") == [
        *serve,
        f"--snapshot_dir={os.path.join('dir', 'ps-1')}",
    ]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_the_batch_script(tmp_path):
    """Runs it, with a `srun` that starts every task here.

    Its centers cannot serve, since no machine has the names of its nodes.
    """
    program = tmp_path / "bin" / "srun"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{SRUN}")
    program.chmod(0o755)
    train = tmp_path / "train.py"
    train.write_text(
        "import json, os, sys\n"
        "task = json.loads(os.environ['TF_CONFIG'])['task']\n"
        "print(json.dumps([os.environ['TF_CONFIG'], sys.argv[1:],\n"
        "    os.environ['TF_ELASTIC_TOKEN']]))\n"
        "sys.exit(0 if task['type'] == 'worker' else 3)\n"
    )
    result = subprocess.run(
        ["bash", str(SBATCH), "--epochs=3", "--x=a b"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(tree.ROOT),
            "PYTHON": sys.executable,
            "SLURM_JOB_ID": "7",
            "SLURM_NTASKS": "4",
            "SLURM_NNODES": "2",
            "SLURM_CPUS_PER_TASK": "1",
            "SLURM_JOB_NODELIST": "n[1-2].invalid",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    tokens = set()
    for index in range(4):
        log = tmp_path / "runs" / "slurm-7" / "logs" / f"worker-{index}.log"
        text, args, token = json.loads(log.read_text())
        config = ClusterConfiguration.from_tf_config(text)
        assert config.task == f"worker {index}"
        assert len(config.centers) == 2
        assert args == ["--epochs=3", "--x=a b"]
        tokens.add(token)
    [token] = tokens
    Security(token=token)
    steps = (tmp_path / "srun.log").read_text().splitlines()
    [center] = [line for line in steps if "cyclic" in line]
    assert "--ntasks=2 --nodes=2 --relative=0" in center
    for index in range(2):
        log = tmp_path / "runs" / "slurm-7" / "logs" / f"ps-{index}.log"
        # Told once, and not tried for ever.
        text = log.read_text()
        assert text.count(f"'n{index + 1}.invalid'") == 1, text


# Each task in turn, as on two nodes.
SRUN = """
import os, subprocess, sys
options = {}
for i, arg in enumerate(sys.argv[1:], 1):
    if not arg.startswith("--"): break
    name, _, value = arg.partition("=")
    options[name] = value
with open("srun.log", "a") as file: file.write(" ".join(sys.argv[1:]) + chr(10))
count = int(options["--ntasks"])
block = options["--distribution"] == "block"
for k in range(count):
    node = k // (count // 2) if block else k % 2
    env = {**os.environ, "SLURM_PROCID": str(k),
        "SLURM_STEP_NUM_TASKS": str(count),
        "SLURM_STEP_NODELIST": os.environ["SLURM_JOB_NODELIST"],
        "SLURM_STEP_TASKS_PER_NODE": f"{count // 2}(x2)",
        "SLURMD_NODENAME": f"n{node + 1}.invalid"}
    with open(options["--output"].replace("%t", str(k)), "a") as log:
        subprocess.run(sys.argv[i:], env=env, stdout=log, stderr=log)
"""


# Kubernetes.

VARIABLES = {
    "TF_ELASTIC_WORKERS": "4",
    "TF_ELASTIC_CENTERS": "2",
    "TF_ELASTIC_SERVICE": "svc",
    "TF_ELASTIC_PORT": "2222",
}


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("my-net-worker-3", "worker 3"),
        ("my-net-ps-1", "ps 1"),
        ("my-net-evaluator-0", "evaluator 0"),
    ],
)
def test_a_pod(host, name):
    config = kubernetes.configure(VARIABLES, host)
    config = ClusterConfiguration.from_tf_config(config.to_tf_config())
    assert config.task == name
    assert config.centers == (
        "my-net-ps-0.svc:2222",
        "my-net-ps-1.svc:2222",
    )
    assert config.workers[3] == "my-net-worker-3.svc:2222"
    if "evaluator" not in host:
        own = config.jobs[config.role][config.index]
        assert own.startswith(f"{host}.")


@pytest.mark.parametrize(
    ("host", "changed", "parts"),
    [
        ("laptop", {}, ["NAME-ps-0", "'laptop'", "stateful set"]),
        ("a-ps-2", {}, ["ps must be from 0 to 1", "Received: 2"]),
        ("a-ps-0", {"TF_ELASTIC_WORKERS": ""}, ["TF_ELASTIC_WORKERS", ">= 1"]),
        ("a-ps-0", {"TF_ELASTIC_CENTERS": "two"}, ["CENTERS", "'two'"]),
        ("a-ps-0", {"TF_ELASTIC_PORT": "0"}, ["TF_ELASTIC_PORT", "'0'"]),
    ],
)
def test_a_pod_that_is_set_up_wrongly(host, changed, parts):
    with pytest.raises(ClusterConfigurationError) as error:
        kubernetes.configure({**VARIABLES, **changed}, host)
    for part in [*parts, "Received"]:
        assert part in str(error.value)


def test_the_module_of_kubernetes():
    module = [sys.executable, "-m", "tf_elastic.cluster.launch.kubernetes"]
    result = run(*module, "--host=a-worker-2", **VARIABLES)
    assert result.returncode == 0, result.stderr
    config = ClusterConfiguration.from_tf_config(result.stdout)
    assert config.task == "worker 2"


@pytest.fixture(scope="module")
def manifests():
    """{(kind, name): manifest} of what `kubectl apply -f` takes."""
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    found = {}
    for path in sorted(MANIFESTS.glob("*.yaml")):
        for one in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            key = one["kind"], one["metadata"]["name"]
            assert key not in found
            found[key] = one
    return found


def pods_of(manifests):
    """{name: pod template} of what starts pods."""
    return {
        name: one["spec"]["template"]
        for (kind, name), one in manifests.items()
        if kind in ("StatefulSet", "Job")
    }


def test_there_are_the_manifests(manifests):
    assert sorted(manifests) == [
        ("ConfigMap", "tf-elastic"),
        ("Job", "tf-elastic-worker"),
        ("NetworkPolicy", "tf-elastic-ps"),
        ("NetworkPolicy", "tf-elastic-worker"),
        ("Service", "tf-elastic"),
        ("StatefulSet", "tf-elastic-ps"),
    ]


def selects(selector, labels):
    return selector.items() <= labels.items()


def test_selectors_match_labels(manifests):
    labels = {
        name: pod["metadata"]["labels"]
        for name, pod in pods_of(manifests).items()
    }
    service = manifests["Service", "tf-elastic"]["spec"]
    assert all(selects(service["selector"], own) for own in labels.values())
    assert service["clusterIP"] == "None"
    centers = manifests["StatefulSet", "tf-elastic-ps"]["spec"]
    assert selects(centers["selector"]["matchLabels"], labels["tf-elastic-ps"])
    assert centers["serviceName"] == "tf-elastic"
    workers = manifests["Job", "tf-elastic-worker"]["spec"]
    assert workers["template"]["spec"]["subdomain"] == "tf-elastic"
    for name in labels:
        policy = manifests["NetworkPolicy", name]["spec"]
        selector = policy["podSelector"]["matchLabels"]
        chosen = [pod for pod, own in labels.items() if selects(selector, own)]
        assert chosen == [name]
        assert policy["policyTypes"] == ["Ingress"]
    assert (
        manifests["NetworkPolicy", "tf-elastic-worker"]["spec"]["ingress"] == []
    )
    [rule] = manifests["NetworkPolicy", "tf-elastic-ps"]["spec"]["ingress"]
    [peer] = rule["from"]
    # Pods of this namespace alone.
    assert set(peer) == {"podSelector"}
    assert selects(
        peer["podSelector"]["matchLabels"], labels["tf-elastic-worker"]
    )
    assert not selects(peer["podSelector"]["matchLabels"], {"app": "other"})


def test_ports_agree(manifests):
    data = manifests["ConfigMap", "tf-elastic"]["data"]
    ports = [
        int(data[name]) for name in ("TF_ELASTIC_PORT", "TF_ELASTIC_ARRAY_PORT")
    ]
    assert ports[1] == ports[0] + 1
    services = manifests["Service", "tf-elastic"]["spec"]["ports"]
    pod = pods_of(manifests)["tf-elastic-ps"]["spec"]["containers"][0]
    [rule] = manifests["NetworkPolicy", "tf-elastic-ps"]["spec"]["ingress"]
    assert [service["port"] for service in services] == ports
    assert [each["containerPort"] for each in pod["ports"]] == ports
    assert rule["ports"] == [
        {"protocol": "TCP", "port": port} for port in ports
    ]
    # Numbers, since the pods of workers have no ports of these names.
    assert [service["targetPort"] for service in services] == ports
    assert [each["name"] for each in pod["ports"]] == ["center", "arrays"]
    assert pod["readinessProbe"]["tcpSocket"]["port"] == "center"


def test_each_pod_finds_itself(manifests):
    config_map = manifests["ConfigMap", "tf-elastic"]["data"]
    assert all(isinstance(value, str) for value in config_map.values())
    centers = manifests["StatefulSet", "tf-elastic-ps"]["spec"]["replicas"]
    job = manifests["Job", "tf-elastic-worker"]["spec"]
    assert job["completionMode"] == "Indexed"
    assert job["parallelism"] == job["completions"]
    for role, count in (("ps", centers), ("worker", job["completions"])):
        for index in range(count):
            config = kubernetes.configure(
                config_map, f"tf-elastic-{role}-{index}"
            )
            assert config.task == f"{role} {index}"
            assert len(config.centers) == centers
            assert config.num_workers == job["completions"]
    for pod in pods_of(manifests).values():
        [container] = pod["spec"]["containers"]
        assert container["envFrom"] == [
            {"configMapRef": {"name": "tf-elastic"}}
        ]
        module = container["command"][2]
        assert module == kubernetes.__name__
        assert "--" in container["command"]


def test_the_secret(manifests):
    text = (MANIFESTS / "token.yaml.example").read_text(encoding="utf-8")
    import yaml

    secret = yaml.safe_load(text)
    # It is not among what is applied, and not good as it stands.
    assert ("Secret", secret["metadata"]["name"]) not in manifests
    [(key, value)] = secret["stringData"].items()
    with pytest.raises(ClusterConfigurationError, match="at least 16"):
        Security(token=value)
    for pod in pods_of(manifests).values():
        [variable] = pod["spec"]["containers"][0]["env"]
        assert variable["name"] == "TF_ELASTIC_TOKEN"
        assert variable["valueFrom"]["secretKeyRef"] == {
            "name": secret["metadata"]["name"],
            "key": key,
        }
    assert re.search(r"kubectl create secret generic tf-elastic-token", text)


def test_pods_have_few_rights(manifests):
    for pod in pods_of(manifests).values():
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        [container] = pod["spec"]["containers"]
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
