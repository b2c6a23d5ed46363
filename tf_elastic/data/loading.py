"""`load`: a data set by its name, as a `tf.data` pipeline."""

import functools
import os
from typing import Any

import numpy as np
import tensorflow as tf

from tf_elastic.data import checks
from tf_elastic.data import epoch_stream
from tf_elastic.data import loader_sampler
from tf_elastic.data import pipelines
from tf_elastic.data import registered
from tf_elastic.data import sources
from tf_elastic.data import turns_sampler
from tf_elastic.data import uniform_sampler
from tf_elastic.data import variants

_SPLITS = ("train", "test", "train_eval")
_SAMPLINGS = ("loaders", "uniform")


def load(
    name: str,
    split: str | list[str] | tuple[str, ...] | None = None,
    *,
    batch_size: int = 128,
    num_workers: int = 1,
    variant: str | None = None,
    sampling: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    seed: int | None = None,
    steps_per_epoch: int | None = None,
    skip_steps: int = 0,
    num_loaders: int = 8,
    chunk_size: int = 512,
    in_turn: bool = False,
) -> Any:
    """Loads a data set, sampled and preprocessed as in the thesis.

    An element is `(images, labels)`: float32 [batch, height, width, channels]
    and int64 [batch].

    **Training.** A batch of the split "train" is a *global batch* of
    `num_workers * batch_size` images. Its i-th slice of `batch_size` images
    is the minibatch of worker i: a strategy that cuts the global batch into
    equal parts for its replicas, as `MirroredStrategy` does, hands each worker
    its own. Each worker samples the whole data set. By the scheme of section
    4.1 (`sampling="loaders"`), `num_loaders` loaders each cycle through the
    data, sending chunks of `chunk_size` consecutive images to whoever asks; a
    worker takes one chunk from each, shuffles them, and cuts them into
    minibatches. The thesis does not say where the loaders start: here they
    start evenly spaced, plus a random offset.

    An iteration over the data set is an epoch of `steps_per_epoch` steps, and
    the next iteration continues the stream. Iteration number e, from 0, always
    holds steps `skip_steps + e * steps_per_epoch` and on, whether the ones
    before it were read to their end or not. Under a strategy, Keras begins one
    more iteration in each call of `fit`, to build the model.

    **Resuming.** With the same `seed` and the other arguments equal, a data
    set with `skip_steps=n` yields bit for bit what the one without it yields
    from step n on, crops and flips included. `steps_per_epoch` may differ.

    **Evaluation.** The splits "test" and "train_eval" (the training images)
    hold every image once, in order and without augmentation, in batches of
    `batch_size`, the remainder last.

    Args:
        name: "cifar10", "cifar100" (32 x 32 x 3, read with
            `tensorflow_datasets`) or "digits" (8 x 8 x 1, 1437 + 360 images,
            comes with the package); or one of your own, see `register`.
        split: "train", "test" or "train_eval"; or a list of them; or None for
            "train" and "test".
        batch_size: Images in one worker's minibatch, from 1 to the size of the
            training split. The thesis' is 128. For evaluation, images in a
            batch.
        num_workers: p, >= 1.
        variant: Preprocessing. "crop" (default for CIFAR, section 4.1): pixels
            scaled to [0, 1], a random 28 x 28 crop, mirrored at random, for
            each image; the center crop for evaluation. "lowrank" (CIFAR,
            chapter 6): 32 x 32, each channel standardised by the mean and
            standard deviation of the training images, no augmentation.
            "plain" (the only one of "digits" and of your own): pixels scaled
            to [0, 1] (your own by your `scale`), no augmentation, since a
            mirrored digit is another sign.
        sampling: "loaders" (section 4.1), or "uniform", each image drawn at
            random with replacement (chapter 6). None is the variant's own:
            "uniform" for "lowrank", "loaders" for the others.
        data_dir: Folder of prepared TensorFlow Datasets; None is their
            default, usually `~/tensorflow_datasets`. Not used by "digits".
        download: Whether to download and prepare CIFAR in `data_dir` if it is
            not there.
        seed: Non-negative int, which fixes the training stream; None takes
            fresh entropy.
        steps_per_epoch: Global batches in an epoch, >= 1; default the number
            of training images // (`num_workers * batch_size`), at least 1;
            with `in_turn`, minibatches, // `batch_size`.
        skip_steps: Number of steps to begin after, >= 0; more than 0 needs a
            `seed`.
        num_loaders: k, >= 1, for "loaders". The thesis' is 8.
        chunk_size: c, in images, >= 1, for "loaders". The thesis' is 512 for
            CIFAR. At most the number of training images / `num_loaders` is
            used, rounded down to whole minibatches (at least one).
        in_turn: Whether a batch to train on is the minibatch of one worker,
            of one after another, as `VirtualClusterStrategy` takes them: steps
            are then those of all workers together. Default False.

    Returns:
        A `tf.data.Dataset` for a str; a list of them for a list; for None a
        dict with the keys "train" and "test". All have a known cardinality.

    Raises:
        ValueError: If an argument is out of its range.
        TypeError: If a number is not an integer.
        FileNotFoundError: If the data set is not prepared in `data_dir` and
            `download` is False.
        DamagedDataError: If a file of the data set is missing, cut short or
            overwritten, or does not fit what `dataset_info.json` tells. The
            whole split is read here: training reads no file.
        ImportError: If CIFAR is asked for and `tensorflow_datasets` is not
            installed.

    Example:
        >>> import tf_elastic.data
        >>> train = tf_elastic.data.load(
        ...     "digits", "train", batch_size=16, num_workers=4, seed=0)
        >>> images, labels = next(iter(train))
        >>> images.shape, labels.shape
        (TensorShape([64, 8, 8, 1]), TensorShape([64]))
        >>> int(train.cardinality())
        22

    Reference:
        S. Zhang, Distributed stochastic optimization for deep learning, 2016,
        sections 4.1 and 6.1.2.
    """
    checks.check_choice("name", name, [*variants.VARIANTS, *registered.names()])
    of_the_user = registered.find(name)
    splits = _check_splits(split)
    batch_size = checks.check_int(
        "batch_size", batch_size, 1, "The thesis uses 128."
    )
    num_workers = checks.check_int(
        "num_workers", num_workers, 1, "Pass the number of workers."
    )
    num_loaders = checks.check_int(
        "num_loaders", num_loaders, 1, "The thesis uses 8."
    )
    chunk_size = checks.check_int(
        "chunk_size", chunk_size, 1, "The thesis uses 512 for CIFAR."
    )
    if steps_per_epoch is not None:
        steps_per_epoch = checks.check_int(
            "steps_per_epoch",
            steps_per_epoch,
            1,
            "Pass None for about one pass over the data.",
        )
    skip_steps = checks.check_int(
        "skip_steps", skip_steps, 0, "Pass 0 to begin at the beginning."
    )
    seed = _check_seed(seed, skip_steps)
    choices = ("plain",) if of_the_user else variants.VARIANTS[name]
    if variant is None:
        variant = choices[0]
    checks.check_choice("variant", variant, choices)
    if sampling is not None:
        checks.check_choice("sampling", sampling, _SAMPLINGS)

    def read(part: str) -> sources.Source:
        if of_the_user:
            return of_the_user.read(part)
        if name == "digits":
            return sources.read_digits(part)
        return sources.read_cifar(name, part, data_dir, download)

    if of_the_user:
        built = variants.scaled(of_the_user.scale)
    else:
        built = variants.build_variant(
            variant, functools.partial(read, "train")
        )

    def dataset(part: str) -> tf.data.Dataset:
        if part != "train":
            return pipelines.eval_pipeline(
                read(part.removesuffix("_eval")),
                built.evaluate,
                batch_size=batch_size,
            )
        source = read("train")
        num_examples = len(source.labels)
        if batch_size > num_examples:
            raise ValueError(
                "`batch_size` must not exceed the number of training images, "
                f"{num_examples}. Received: batch_size={batch_size}. Pass a "
                "smaller one."
            )
        sampler: epoch_stream.Sampler
        if (sampling or built.sampling) == "uniform":
            sampler = uniform_sampler.UniformSampler(
                num_examples, batch_size, num_workers, seed=seed
            )
        else:
            sampler = loader_sampler.LoaderSampler(
                num_examples,
                batch_size,
                num_workers,
                num_loaders=num_loaders,
                chunk_size=chunk_size,
                seed=seed,
            )
        global_batch_size = num_workers * batch_size
        if in_turn:
            sampler = turns_sampler.TurnsSampler(sampler, num_workers)
            global_batch_size = batch_size
        sampler.skip(skip_steps)
        steps = steps_per_epoch or max(num_examples // global_batch_size, 1)
        return pipelines.train_pipeline(
            source,
            epoch_stream.EpochStream(
                sampler,
                steps_per_epoch=steps,
                num_codes=built.num_codes,
                seed=seed,
            ),
            built.train,
            steps_per_epoch=steps,
            global_batch_size=global_batch_size,
        )

    datasets = [dataset(part) for part in splits]
    if split is None:
        return dict(zip(splits, datasets, strict=True))
    return datasets[0] if isinstance(split, str) else datasets


def _check_splits(split: object) -> list[str]:
    """Returns the names of the splits asked for."""
    if split is None:
        return ["train", "test"]
    asked = split if isinstance(split, (list, tuple)) else [split]
    return [checks.check_choice("split", part, _SPLITS) for part in asked]


def _check_seed(seed: int | None, skip_steps: int) -> int:
    """Returns the seed to use, from fresh entropy for None."""
    if seed is not None:
        return checks.check_int(
            "seed", seed, 0, "Pass None for a different stream in each run."
        )
    if skip_steps:
        raise ValueError(
            "`skip_steps` needs a `seed`: without one there is no stream to "
            f"resume. Received: skip_steps={skip_steps}, seed=None. Pass the "
            "seed of the run to resume."
        )
    return int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
