"""What is refused of the flags of "Data"."""

import os

from tf_elastic.program import defaults
from tf_elastic.program import usage
from tf_elastic.program.flag import Settings


def without_effect(settings: Settings) -> dict[str, str]:
    """The flags that mean nothing with the data set, and why."""
    reasons = {}
    if settings["dataset"] != defaults.IMAGENET:
        reasons["stored_size"] = (
            "it is for ImageNet. Leave it out, or choose "
            f"--dataset={defaults.IMAGENET}"
        )
    if settings["dataset"] == "digits":
        reasons |= dict.fromkeys(
            ("variant", "data_dir", "download"),
            "the digits come with the package. Leave it out, or choose "
            "--dataset=cifar10",
        )
    return reasons


def check_variant(settings: Settings) -> None:
    """Refuses a variant that the data set does not have."""
    dataset, variant = settings["dataset"], settings["variant"]
    choices = defaults.VARIANTS[dataset]
    if variant is not None and variant not in choices:
        raise usage.UsageError(
            f"--variant must be {' or '.join(choices)} with "
            f"--dataset={dataset}. Received: --variant={variant}. Leave it "
            "out for the first of them."
        )


def check_folder(settings: Settings) -> None:
    """Looks for the prepared folder, and for what reads it."""
    dataset = settings["dataset"]
    if dataset == "digits":
        return
    size = settings["stored_size"]
    usage.require(
        "tensorflow_datasets",
        f"--dataset={dataset}",
        "or use --dataset=digits",
    )
    if settings["download"] and size is None:
        return
    folder = settings["data_dir"] or os.path.expanduser(
        os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    )
    prepared = dataset if size is None else f"{dataset}_{size}"
    if os.path.isdir(os.path.join(folder, prepared)):
        return
    fetch = "add --download to fetch it"
    if size is not None:
        fetch = (
            f"make it by `python -m tf_elastic.data.prepare {dataset} "
            f"--size={size} --data_dir={folder}`"
        )
    raise usage.UsageError(
        f"--data_dir must hold the prepared folder '{prepared}'. "
        f"Received: --data_dir={folder}, in which it is not. Give "
        f"the folder that it is in, {fetch}, or "
        "use --dataset=digits, which needs nothing."
    )
