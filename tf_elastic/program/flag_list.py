"""The program's flags by the headings of its help: names, types and words.

What the methods say of theirs is put in by `flag_table`.
"""

from tf_elastic.core import lateness
from tf_elastic.core import stagnation
from tf_elastic.program import inside_flags
from tf_elastic.program import tree_flags
from tf_elastic.program import virtual_flags
from tf_elastic.program.flag import Flag

METHOD = "Method"
# Of these flags those that are no arguments of an optimizer.
OF_THE_PROGRAM = set(
    "optimizer rules methods advise rate_cuts rate_window rate_patience".split()
)
# A table: name, kind and default in one line.
# fmt: off
GROUPS: dict[str, list[Flag]] = {
    "Data": [
        Flag(
            "dataset", "digits|cifar10|cifar100|imagenet2012", "digits",
            "What to train on. The digits come with the package; the others "
            "are read as TensorFlow Datasets prepares them.",
        ),
        Flag(
            "variant", "crop|lowrank|pad|random_resized", None,
            "How images are prepared, and which network learns them. CIFAR: "
            "crop, the thesis' chapter 4; lowrank, its chapter 6 (32 x 32, "
            "standardised, drawn with replacement, batches of 16); pad, "
            "crops of the padded image, standardised. ImageNet: crop, as the "
            "thesis (221 x 221), or random_resized (224 x 224).",
            "crop",
        ),
        Flag(
            "data_dir", "text", None,
            "Folder that holds the prepared folder, 'cifar10' say.",
            "~/tensorflow_datasets",
        ),
        Flag(
            "download", "switch", False,
            "Download and prepare the data in --data_dir if it is not there "
            "(ImageNet: of its tar files in --data_dir/downloads/manual).",
        ),
        Flag(
            "stored_size", "integer", None,
            "ImageNet: read the images that `python -m "
            "tf_elastic.data.prepare` has stored with this shortest side.",
            "the originals",
        ),
    ],
    "Workers": [
        Flag(
            "strategy",
            "elastic_mirrored|mirrored|elastic_multi_worker|elastic_tree|"
            "multi_worker_mirrored|virtual_cluster",
            None,
            "elastic_mirrored: each device is a worker with its own "
            "parameters. mirrored: the baseline, TensorFlow's "
            "MirroredStrategy with Keras' SGD; all devices take each step "
            "together. elastic_multi_worker, multi_worker_mirrored: the same "
            "with processes for devices. elastic_tree: see --tree. "
            "virtual_cluster: see --virtual_workers.",
            "elastic_mirrored; in a cluster elastic_multi_worker, with a tree "
            "elastic_tree",
        ),
        Flag(
            "workers", "integer", None,
            "How many workers. On a CPU they are logical devices; if there "
            "are fewer GPUs, several workers share one.",
            "4; 1 for a method of one worker",
        ),
        Flag(
            "device", "auto|cpu|gpu", "auto",
            "Where the workers are. auto: on GPUs if there are any.",
        ),
        Flag(
            "gpu_memory_mb", "integer", None,
            "Memory of each worker, in MiB, if several share a GPU.",
            "an equal part of what is free",
        ),
        Flag(
            "order", "jacobi|gauss_seidel|round_robin", None,
            "Who moves first in an exchange. jacobi: all at once; "
            "gauss_seidel: the center, then the workers; round_robin: one "
            "worker after another.",
            "the method's own, see --methods",
        ),
    ],
    "Cluster": [
        Flag(
            "local_workers", "integer", None,
            "Start a cluster on this machine, of so many workers, each a "
            "process. Without it, TF_CONFIG tells which process of a cluster "
            "this is.",
            "none",
        ),
        Flag(
            "local_ps", "integer", 1,
            "Center servers of the cluster that --local_workers starts.",
        ),
        Flag(
            "group_size", "integer", 1,
            "Processes that are one worker together: they take each step "
            "together, and the first of them exchanges with the center. "
            "--local_workers counts processes.",
        ),
        Flag(
            "local_evaluator", "switch", False,
            "Start a process too that evaluates the center all the time and "
            "keeps the best model, in --model_dir.",
        ),
        Flag(
            "protocol", "overlapped|blocking|synchronous", None,
            "When a worker exchanges with the center. overlapped: while "
            "training goes on; blocking: while it stands still; "
            "synchronous: all workers meet.",
            "the method's own, see --methods",
        ),
        Flag(
            "compression", "none|bfloat16|int8", "none",
            "Of what travels between workers and center.",
        ),
        Flag(
            "max_lag", "number", lateness.DEFAULT_MAX_LAG,
            "How many turns of the other workers one may miss between two of "
            "its exchanges; what it brings after that is left out, and it "
            "goes on from the center. 0 for no bound.",
        ),
        Flag(
            "restart_workers", "switch", False,
            "Start a worker of --local_workers again if it dies.",
        ),
        Flag(
            "status", "switch", False,
            "Show a live table of the workers of --local_workers below the "
            "chief's output.",
        ),
        Flag(
            "events", "text", None,
            "File to append to what happens between workers and centers, one "
            "JSON object a line; `python -m tf_elastic.timeline` makes a "
            "table of it. A local cluster draws it at its end.",
            "what TF_ELASTIC_EVENTS names",
        ),
        Flag(
            "trusted_network", "switch", False,
            "Allow servers that everybody in the network can reach.",
        ),
    ],
    "Devices of a process": inside_flags.FLAGS,
    "Tree": tree_flags.FLAGS,
    "Virtual cluster": virtual_flags.FLAGS,
    METHOD: [
        Flag(
            "optimizer", "text", "eamsgd",
            "The method, or the name of its class; see --methods.",
        ),
        Flag(
            "rules", "texts", None,
            "Python files, with commas between them, that hold optimizers of "
            "your own, each decorated by `tf_elastic.optimizers.register`. "
            "They are imported first; the flag may be repeated.",
            "what TF_ELASTIC_RULES names",
        ),
        Flag(
            "methods", "switch", False,
            "List all methods in a table, and end.",
        ),
        Flag(
            "advise", "switch", False,
            "Say what the theory says of these settings (stable or not, the "
            "nearest that is, how much momentum, how many workers), with the "
            "curvature measured on a batch, and end.",
        ),
        Flag(
            "inner_optimizer", "text", None,
            "Name of a Keras optimizer: adam, adamw, sgd, ...",
            lacking="has none inside",
        ),
        Flag(
            "learning_rate", "number", None,
            "Step size of a worker, eta.",
        ),
        Flag(
            "learning_rate_decay", "number", None,
            "Decay gamma: the rate at local step t is "
            "eta / sqrt(1 + gamma t).",
            "none",
        ),
        Flag(
            "rate_cuts", "text", None,
            "What the learning rate is divided by, one after another, each "
            "time that the loss stagnates: 5,2 in the thesis. Also with the "
            "mirrored strategies.",
            "none",
        ),
        Flag(
            "rate_window", "integer", None,
            "Batches over which the loss is averaged, for --rate_cuts.",
            "an epoch",
        ),
        Flag(
            "rate_patience", "integer", stagnation.DEFAULT_PATIENCE,
            "Windows without a lower loss, before --rate_cuts cuts.",
        ),
        Flag(
            "momentum", "number", None,
            "Momentum of a worker, or of the center, in [0, 1). Also with "
            "the mirrored strategies.",
            lacking="has no momentum",
        ),
        Flag(
            "nesterov", "switch", None,
            "Take the gradient where the momentum leads; --nonesterov takes "
            "it where the worker is (heavy ball). Also with the mirrored "
            "strategies.",
            lacking="has no momentum",
        ),
        Flag(
            "beta", "number", None,
            "Rate at which the center follows the workers, per exchange.",
            "0.9, or workers * moving_rate",
            lacking="has no elastic rates",
        ),
        Flag(
            "moving_rate", "number", None,
            "Rate at which a worker is pulled to the center, per exchange, "
            "alpha.",
            "beta / workers",
            lacking="has no elastic rates",
        ),
        Flag(
            "symmetric", "switch", None,
            "Hold beta = workers * moving_rate; with --nosymmetric both are "
            "free, and must be given.",
            lacking="has no elastic rates",
        ),
        Flag(
            "communication_period", "text", None,
            "Local steps between two exchanges, tau; none for no exchange.",
            lacking="exchanges at every step",
        ),
        Flag(
            "averaging_rate", "number", None,
            "Rate of the moving average of the center, in (0, 1].",
        ),
        Flag(
            "center_average", "text", None,
            "What is evaluated and saved. none: the center; polyak: the mean "
            "of all centers so far; a rate in (0, 1]: their moving average.",
            lacking="has no choice of an average",
        ),
        Flag(
            "average_from", "text", None,
            "Updates of the center before its average begins; first_cut: it "
            "begins when the learning rate is first reduced.",
            lacking="has no average",
        ),
        Flag(
            "adjustment", "constant|inverse|inverse_sqrt", None,
            "What multiplies the learning rate at the center's k-th update: "
            "1, 1 / k or 1 / sqrt(k).",
        ),
        Flag(
            "staleness_scaling", "switch", None,
            "Divide each gradient's rate by its staleness.",
        ),
        Flag(
            "delay_compensation", "number", None,
            "Correct gradients for the center's way meanwhile, lambda.",
        ),
        Flag(
            "outer_learning_rate", "number", None,
            "Step size of the center.",
        ),
        Flag(
            "outer_momentum", "number", None,
            "Momentum of the center, in [0, 1).",
        ),
        Flag(
            "momentum_delay", "integer", None,
            "Pushes, of which the center's momentum acts with the last.",
            "as many as workers",
        ),
        Flag(
            "momentum_activation", "number", None,
            "Share of it that acts with each push, at most 1 / delay.",
        ),
        Flag(
            "regional_learning_rate", "number", None,
            "Step size of the regional servers of HALoS.",
        ),
        Flag(
            "regional_momentum", "number", None,
            "Their momentum, in [0, 1).",
        ),
        Flag(
            "regional_delay", "integer", None,
            "Updates of a regional server, of which its momentum acts with "
            "the last.",
        ),
        Flag(
            "merge_weight", "number", None,
            "How much of the global model a regional server takes, in [0, 1].",
        ),
        Flag(
            "push_weight", "number", None,
            "How much of a push counts at the center, in (0, 1].",
            "1 / sqrt(workers)",
        ),
        Flag(
            "elasticity", "number", None,
            "The penalty rho on a worker's distance to the center.",
        ),
        Flag(
            "weight_decay", "number", None,
            "Decoupled weight decay, as in Keras.", "none",
        ),
        Flag(
            "clipnorm", "number", None,
            "Largest norm of a variable's gradient, for each worker.", "none",
        ),
        Flag(
            "gradient_accumulation_steps", "integer", None,
            "Batches whose gradients make up one local step, at least 2.",
            "1",
        ),
    ],
    "Length": [
        Flag(
            "batch_size", "integer", None,
            "Images in a worker's batch.", "32 for digits, 128 for CIFAR",
        ),
        Flag("epochs", "integer", None, "Epochs in all.",
             "8 for digits, 10 for CIFAR"),
        Flag(
            "steps_per_epoch", "integer", None,
            "Batches of each worker in an epoch; with --virtual_workers those "
            "of all workers together.",
            "training images / batch_size",
        ),
        Flag(
            "steps_per_execution", "integer", 1,
            "Batches in one call of the graph; more cost less Python.",
        ),
    ],
    "Numbers": [
        Flag(
            "mixed_precision", "none|float16|bfloat16", "none",
            "Type of computation; variables stay float32.",
        ),
        Flag(
            "jit_compile", "auto|true|false", "auto",
            "Whether XLA compiles update and exchange.",
        ),
        Flag("seed", "integer", 0, "Of initial values, data and dropout."),
        Flag(
            "deterministic", "switch", False,
            "The same numbers to the bit in every run; slower on GPUs.",
        ),
    ],
    "Files and output": [
        Flag(
            "logdir", "text", None,
            "Folder for TensorBoard; see it by `tensorboard --logdir`.",
            "none",
        ),
        Flag(
            "model_dir", "text", None,
            "Folder for a backup after each epoch, the history, and at the "
            "end the center, as model.keras.",
            "none",
        ),
        Flag(
            "resume", "switch", False,
            "Go on with the run in --model_dir, with the settings it was "
            "begun with. --epochs may be raised.",
        ),
        Flag(
            "plot", "text", None,
            "File for a picture of the run, ending in .png.", "none",
        ),
        Flag(
            "report", "text", None,
            "File for the report at the end, as JSON.", "none",
        ),
        Flag(
            "verbose", "0|1|2", None,
            "1: a progress bar; 2: a line for each epoch; 0: the end only.",
            "1 on a terminal, else 2",
        ),
    ],
}
# fmt: on
