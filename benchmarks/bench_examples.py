"""Three of Keras' examples with another strategy and optimizer, nothing else.

    nice python benchmarks/bench_examples.py [--csv=PATH] [--data_dir=DIR]
        [--seeds=3] [--examples=image,text,tabular] [--minutes=0]
        [--ways=stock,2,4,...]

The networks are in `_keras_examples`, with what their data is replaced by.
Each is trained by stock Keras and Adam on one device; that is what
`MirroredStrategy` computes on several, with the same global batch. Then as
p = 2 and p = 4 elastic workers, on the same samples in batches of the same
size, each worker on its part: `Elastic("adam")` with its defaults in an
`ElasticMirroredStrategy`. The test accuracy of the center is compared.

*Ways* are "stock", a number of workers, or one of these with knobs that are
turned: "4 communication_period=1", "4 learning_rate=0.002". `method=DiLoCo` is
another of the package's optimizers around Adam, with its defaults, `order` is
the strategy's; a way with `epochs=8` is compared with "stock epochs=8".

With --csv each run is appended as it ends, and what the file has is not done
again; with --minutes none begins after so long.
"""

import contextlib
import platform
import statistics
import sys
import time

import _keras_examples
import _report
import keras
import tensorflow as tf

import tf_elastic as te

KEY = ("example", "way", "seed")
FIELDS = (
    *KEY,
    *("data", "batch_size", "epochs", "samples", "accuracy", "loss"),
    *("processor_s", "python", "tensorflow", "keras"),
)
STOCK = "stock"
WAYS = f"{STOCK},2,4"
WITHIN = 0.01
# What is no number with a point: all other knobs are.
KINDS = {
    **{"communication_period": int, "epochs": int},
    **{"method": str, "order": str},
}


def knobs_of(way):
    """{name: value} of "4 name=value name=value"."""
    found = dict(knob.split("=") for knob in way.split()[1:])
    return {
        name: KINDS.get(name, float)(value) for name, value in found.items()
    }


def stock_of(way):
    """What a way is compared with: stock's, for as many epochs."""
    epochs = knobs_of(way).get("epochs")
    return f"{STOCK} epochs={epochs}" if epochs else STOCK


def compiled(example, data, way):
    """The example's model: only strategy and optimizer differ."""
    kind, *_ = way.split()
    knobs = knobs_of(way)
    knobs.pop("epochs", None)
    learning_rate = knobs.pop("learning_rate", 0.001)
    order = knobs.pop("order", None)
    method = getattr(te.optimizers, knobs.pop("method", "Elastic"))
    scope = contextlib.nullcontext()
    if kind != STOCK:
        scope = te.strategies.ElasticMirroredStrategy(
            ["CPU:0"], order=order, workers_per_device=int(kind)
        ).scope()
    with scope:
        optimizer = keras.optimizers.Adam(learning_rate)
        if kind != STOCK:
            optimizer = method(optimizer, **knobs)
        model = example.model(data)
        model.compile(optimizer, loss=example.loss, metrics=["accuracy"])
    return model


def run(example, data, way, seed):
    """Trains and tests; see FIELDS."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    begin = time.process_time()
    model = compiled(example, data, way)
    epochs = knobs_of(way).get("epochs", example.epochs)
    history = model.fit(
        *data.train,
        batch_size=example.batch_size,
        epochs=epochs,
        verbose=0,
    )
    loss, accuracy = model.evaluate(*data.test, batch_size=500, verbose=0)
    return {
        "data": example.data,
        "batch_size": example.batch_size,
        "epochs": len(history.epoch),
        "samples": len(data.train[0]) * epochs,
        "accuracy": round(accuracy, 5),
        "loss": round(loss, 5),
        "processor_s": round(time.process_time() - begin, 1),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }


def report(rows):
    """Prints the table: accuracies, and differences to stock's, in points."""
    found = {
        (row["example"], row["way"], row["seed"]): float(row["accuracy"])
        for row in rows
    }
    print("| example | way | accuracy, % | minus stock, points | verdict |")
    print("|---" * 5 + "|")
    kinds = list(dict.fromkeys(kind for kind, *_ in found))
    ways = dict.fromkeys(key[:2] for key in found)
    for kind, way in sorted(ways, key=lambda way: kinds.index(way[0])):
        seeds = [key[2] for key in found if key[:2] == (kind, way)]
        own = [found[kind, way, seed] for seed in seeds]
        line = f"| {kind} | {way} | " + _told(own, ".1f")
        stock = stock_of(way)
        both = [s for s in seeds if (kind, stock, s) in found]
        if way == stock or not both:
            print(f"{line} | | |")
            continue
        less = [found[kind, way, s] - found[kind, stock, s] for s in both]
        close = abs(statistics.mean(less)) <= WITHIN
        better = statistics.mean(less) > WITHIN
        verdict = "within one point" if close else "better"
        if not close and not better:
            verdict = "worse"
        print(f"{line} | {_told(less, '+.1f')} | {verdict} |")


def _told(numbers, form):
    each = ", ".join(format(100 * number, form) for number in numbers)
    return f"{format(100 * statistics.mean(numbers), form)} ({each})"


def main():
    """Runs what is not in the file yet."""
    args = _report.parse_args(
        __doc__,
        csv="",
        data_dir="",
        seeds=3,
        examples="image,text,tabular",
        ways=WAYS,
        minutes=0.0,
    )
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    rows = _report.Rows(args.csv, FIELDS, KEY)
    known = _keras_examples.examples(args.data_dir)
    data = {}
    begin = time.monotonic()
    for seed in range(args.seeds):
        for kind in args.examples.split(","):
            for way in args.ways.split(","):
                key = (kind, way, seed)
                late = args.minutes and (
                    time.monotonic() - begin > 60 * args.minutes
                )
                if rows.has(key) or late:
                    continue
                if kind not in data:
                    data[kind] = known[kind].read()
                found = run(known[kind], data[kind], way, seed)
                rows.add([{**dict(zip(KEY, key, strict=True)), **found}])
                print(key, found, file=sys.stderr, flush=True)
    report(rows.rows)
    _report.write(args, {"rows": rows.rows})


if __name__ == "__main__":
    main()
