"""`load`: a data set by its name, as a `tf.data` pipeline."""

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_elastic.data import checks
from tf_elastic.data import encoded_pipelines
from tf_elastic.data import imagenet
from tf_elastic.data import pipelines
from tf_elastic.data import registered
from tf_elastic.data import sampling as sampling_
from tf_elastic.data import sources
from tf_elastic.data import variants
from tf_elastic.data import windows

_SPLITS = ("train", "test", "train_eval")


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
    chunk_size: int | None = None,
    in_turn: bool = False,
    shard: tuple[int, int] = (0, 1),
    stored_size: int | None = None,
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
    `batch_size`, the remainder last. Of ImageNet "test" is what its authors
    call validation, and "train_eval" is 50 000 training images, evenly spread,
    as in the thesis.

    Args:
        name: "cifar10", "cifar100" (32 x 32 x 3, read with
            `tensorflow_datasets`); "imagenet2012", whose images stay in its
            files and are decoded as they are needed; or "digits" (8 x 8 x 1,
            1437 + 360 images, comes with the package); or one of your own, see
            `register`.
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
            standard deviation of the training images, no augmentation. "pad"
            (CIFAR): a random 32 x 32 crop of the image with 4 black pixels
            around it, mirrored at random, then each channel standardised.
            Of ImageNet, pixels in [0, 1]: "crop" (default, section 4.1): the
            shortest side resized to 256, a random 221 x 221 crop, mirrored at
            random; "random_resized": a random part of 8 to 100 % of the area
            and a ratio of sides of 3/4 to 4/3, resized to 224 x 224, mirrored
            at random. To evaluate, the center 221 x 221 or 224 x 224 of the
            image whose shortest side is 256.
            "plain" (the only one of "digits" and of your own): pixels scaled
            to [0, 1] (your own by your `scale`), no augmentation, since a
            mirrored digit is another sign.
        sampling: "loaders" (section 4.1); "parts", the same, but each loader
            cycles through its own part of the data, 1 / `num_loaders` of it
            (section 4.1, of ImageNet); or "uniform", each image drawn at
            random with replacement (chapter 6). None is the variant's own:
            "uniform" for "lowrank", "parts" for ImageNet (if a part has a
            minibatch at least), "loaders" for the others.
        data_dir: Folder of prepared TensorFlow Datasets; None is their
            default, usually `~/tensorflow_datasets`. Not used by "digits".
        download: Whether to download and prepare the data set in `data_dir`
            if it is not there. ImageNet is prepared from its two tar files,
            which must be in `data_dir`/downloads/manual.
        seed: Non-negative int, which fixes the training stream; None takes
            fresh entropy.
        steps_per_epoch: Global batches in an epoch, >= 1; default the number
            of training images // (`num_workers * batch_size`), at least 1;
            with `in_turn`, minibatches, // `batch_size`.
        skip_steps: Number of steps to begin after, >= 0; more than 0 needs a
            `seed`.
        num_loaders: k, >= 1, for "loaders". The thesis' is 8.
        chunk_size: c, in images, >= 1, for "loaders". The thesis' is 512 for
            CIFAR and 64 for ImageNet, which None is. At most the number of
            training images / `num_loaders` is used, rounded down to whole
            minibatches (at least one).
        in_turn: Whether a batch to train on is the minibatch of one worker,
            of one after another, as `VirtualClusterStrategy` takes them: steps
            are then those of all workers together. Default False.
        shard: (i, n): training samples only the i-th (from 0) of n equal,
            consecutive parts of the training images. Default (0, 1), all.
        stored_size: Of ImageNet: read the images that `python -m
            tf_elastic.data.prepare` has stored with this shortest side, in
            pixels. None (default) reads the originals.

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
            whole split is read here: training reads no file. Of ImageNet the
            files' sizes are checked here; single images that turn out to be
            damaged later are left out, see `damaged_images`.
        ImportError: If CIFAR or ImageNet is asked for and
            `tensorflow_datasets` is not installed.

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
    checks.check_choice(
        "name", name, [*variants.VARIANTS, imagenet.NAME, *registered.names()]
    )
    splits = _check_splits(split)
    if chunk_size is None:
        chunk_size = 64 if name == imagenet.NAME else 512
    asked = _check_sampling(
        batch_size=batch_size,
        num_workers=num_workers,
        num_loaders=num_loaders,
        chunk_size=chunk_size,
        steps_per_epoch=steps_per_epoch,
        skip_steps=skip_steps,
        seed=seed,
        sampling=sampling,
        in_turn=in_turn,
        shard=shard,
    )
    of_the_user = registered.find(name)
    if name == imagenet.NAME:
        choices = tuple(imagenet.VARIANTS)
    elif of_the_user:
        choices = ("plain",)
    else:
        choices = variants.VARIANTS[name]
    if variant is None:
        variant = choices[0]
    checks.check_choice("variant", variant, choices)
    if stored_size is not None:
        stored_size = checks.check_int(
            "stored_size", stored_size, 1, "Pass None for the originals."
        )
        if name != imagenet.NAME:
            raise ValueError(
                f"`stored_size` is for {imagenet.NAME!r}. Received: "
                f"stored_size={stored_size}, name={name!r}. Leave it out."
            )
    if name == imagenet.NAME:

        def make(part: str) -> tf.data.Dataset:
            return _of_files(
                part, asked, variant, data_dir, download, stored_size
            )

    else:

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

        def make(part: str) -> tf.data.Dataset:
            return _in_memory(part, asked, built, read)

    datasets = [make(part) for part in splits]
    if split is None:
        return dict(zip(splits, datasets, strict=True))
    return datasets[0] if isinstance(split, str) else datasets


def _in_memory(
    part: str,
    asked: sampling_.Sampling,
    built: variants.Variant,
    read: Callable[[str], sources.Source],
) -> tf.data.Dataset:
    """A split of a data set that is held in memory."""
    source = read(part.removesuffix("_eval"))
    if part != "train":
        return pipelines.eval_pipeline(
            source, built.evaluate, batch_size=asked.batch_size
        )
    stream, steps = asked.stream(
        len(source.labels), built.sampling, built.num_codes
    )
    return pipelines.train_pipeline(
        source,
        stream,
        built.train,
        steps_per_epoch=steps,
        global_batch_size=asked.global_batch_size,
    )


def _of_files(
    part: str,
    asked: sampling_.Sampling,
    variant: str,
    data_dir: str | os.PathLike[str] | None,
    download: bool,
    stored_size: int | None,
) -> tf.data.Dataset:
    """A split of ImageNet, which stays in its files."""
    built = imagenet.VARIANTS[variant]
    images = imagenet.read(
        part,
        data_dir,
        download=download,
        stored_size=stored_size,
        consecutive=part != "train" or asked.sampling != "uniform",
    )
    if part != "train":
        return encoded_pipelines.eval_pipeline(
            images,
            built.evaluate,
            size=built.size,
            batch_size=asked.batch_size,
        )
    stream, steps = asked.stream(len(images), "parts", windows.NUM_CODES)
    return encoded_pipelines.train_pipeline(
        images,
        stream,
        built.train,
        size=built.size,
        steps_per_epoch=steps,
        global_batch_size=asked.global_batch_size,
    )


def _check_splits(split: object) -> list[str]:
    """Returns the names of the splits asked for."""
    if split is None:
        return ["train", "test"]
    asked = split if isinstance(split, (list, tuple)) else [split]
    return [checks.check_choice("split", part, _SPLITS) for part in asked]


def _check_sampling(
    *,
    batch_size: int,
    num_workers: int,
    num_loaders: int,
    chunk_size: int,
    steps_per_epoch: int | None,
    skip_steps: int,
    seed: int | None,
    sampling: str | None,
    in_turn: bool,
    shard: tuple[int, int],
) -> sampling_.Sampling:
    """Returns what is asked for, in range."""
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
        "chunk_size",
        chunk_size,
        1,
        "The thesis uses 512 for CIFAR, 64 for ImageNet.",
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
    if sampling is not None:
        checks.check_choice("sampling", sampling, sampling_.SAMPLINGS)
    return sampling_.Sampling(
        batch_size=batch_size,
        num_workers=num_workers,
        sampling=sampling,
        seed=_check_seed(seed, skip_steps),
        steps_per_epoch=steps_per_epoch,
        skip_steps=skip_steps,
        num_loaders=num_loaders,
        chunk_size=chunk_size,
        in_turn=in_turn,
        shard=_check_shard(shard),
    )


def _check_shard(shard: object) -> tuple[int, int]:
    """Returns (i, n), 0 <= i < n."""
    if not isinstance(shard, (tuple, list)) or len(shard) != 2:
        raise ValueError(
            "`shard` must be a pair (i, n), the i-th of n parts. Received: "
            f"shard={shard!r}. Pass (0, 1) for all training images."
        )
    advice = "Pass (i, n) with 0 <= i < n."
    number = checks.check_int("shard[0]", shard[0], 0, advice)
    count = checks.check_int("shard[1]", shard[1], 1, advice)
    if number >= count:
        raise ValueError(
            "The first of `shard` must be less than the second. Received: "
            f"shard={shard!r}. {advice}"
        )
    return number, count


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
