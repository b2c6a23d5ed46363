"""A rule of your own: an Adam at the center, fed by asynchronous workers.

Workers take SGD steps of their own, as in DOWNPOUR, and push the way that they
have gone. The center does not add it: it takes the way as a gradient, and goes
by Adam, whose two moments it keeps beside its parameters.

    python examples/adam_center.py
    python train.py --rules=examples/adam_center.py --optimizer=adam_center
    python train.py --rules=examples/adam_center.py --optimizer=adam_center \
        --local_workers=2 --local_ps=2
    python train.py --rules=examples/adam_center.py --methods

Nothing in the package knows of this file. The rule moves the arrays of a center
server and the tensors on a device; what it keeps travels in snapshots by its
names.
"""

import dataclasses

import keras

import tf_elastic as te
from tf_elastic.core import rules


@rules.rule("adam_center")
@dataclasses.dataclass(frozen=True)
class CenterAdam(rules.Rule):
    r"""What a center does with the way d that a worker has gone.

    .. math::
        m &\leftarrow \beta_1 m + (1 - \beta_1) d \\
        v &\leftarrow \beta_2 v + (1 - \beta_2) d^2 \\
        \tilde x &\leftarrow \tilde x + \eta \frac
            {\sqrt{1 - \beta_2^k}}{1 - \beta_1^k} \frac m {\sqrt v + \epsilon}

    at the center's k-th update.
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7

    sends = rules.INCREMENT
    moves_by_itself = True  # by its first moment
    ranges = {"center_rate": (0.0, 10.0)}

    def init(self, center):
        return {"center": center, "m": 0 * center, "v": 0 * center}

    def rates_at(self, rates, context):
        k = context.version + 1
        correction = (1 - self.beta_2**k) ** 0.5 / (1 - self.beta_1**k)
        return {"step": rates["center_rate"] * correction}

    def apply(self, parent, total, rates, sent=None):
        m = self.beta_1 * parent["m"] + (1 - self.beta_1) * total
        v = self.beta_2 * parent["v"] + (1 - self.beta_2) * total * total
        step = rates["step"] * m / (v**0.5 + self.epsilon)
        return {"center": parent["center"] + step, "m": m, "v": v}


@keras.saving.register_keras_serializable("examples")
@te.optimizers.register(
    rule="m, v = moments of x_i - read_i;  c += eta m / (sqrt(v) + eps);  "
    "x_i = read_i = c",
    center_memory=2,
    use="an example: a rule in a file of your own",
    reference="Kingma and Ba (2015), at the center",
    defaults={"learning_rate": {"digits": 0.05, "cifar": 0.01}},
)
class AdamCenter(te.optimizers.Downpour):
    """DOWNPOUR's workers, and an Adam at the center.

    Args:
        learning_rate: of the workers' SGD steps.
        communication_period: local steps between two pushes.
        center_rate: of the center's Adam.
        name: name of the optimizer.
        **kwargs: as in `tf_elastic.optimizers.Downpour`.
    """

    def __init__(
        self,
        learning_rate=0.05,
        *,
        communication_period=2,
        center_rate=0.005,
        name="adam_center",
        **kwargs,
    ):
        super().__init__(
            learning_rate,
            communication_period=communication_period,
            name=name,
            **kwargs,
        )
        self.center_rate = center_rate

    @property
    def center_rule(self):
        return CenterAdam()

    def push_rates(self, num_workers, numbers):
        return {"center_rate": self.center_rate}

    def get_config(self):
        return {**super().get_config(), "center_rate": self.center_rate}


def main():
    """Trains on two devices of this process."""
    keras.utils.set_random_seed(1)
    strategy = te.strategies.ElasticMirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = te.models.digits_convnet()
        model.compile(
            AdamCenter(),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
    train, test = te.data.load("digits", split=["train", "test"], batch_size=32)
    model.fit(train, epochs=5, steps_per_epoch=45, validation_data=test)


if __name__ == "__main__":
    main()
