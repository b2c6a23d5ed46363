"""Elastic training of Keras models on devices that do not wait.

```python
import tf_elastic as te

strategy = te.strategies.ElasticMirroredStrategy()
with strategy.scope():
    model = te.models.cifar_convnet()
    model.compile(
        te.optimizers.EAMSGD(0.005, momentum=0.99, communication_period=10),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
model.fit(train, validation_data=test)
```
"""

from tf_elastic import compat as _compat

_compat.check_versions()

from tf_elastic import core  # noqa: E402
from tf_elastic import data  # noqa: E402
from tf_elastic import models  # noqa: E402
from tf_elastic import monitor  # noqa: E402
from tf_elastic import optimizers  # noqa: E402
from tf_elastic import strategies  # noqa: E402
from tf_elastic import theory  # noqa: E402
from tf_elastic.version import __version__  # noqa: E402

__all__ = [
    "__version__",
    "core",
    "data",
    "models",
    "monitor",
    "optimizers",
    "strategies",
    "theory",
]
