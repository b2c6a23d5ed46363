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

A submodule is imported when it is first named, so `import tf_elastic` alone is
quick and starts no TensorFlow. To load a Keras model that was saved with one of
the optimizers, import them: `import tf_elastic.optimizers`. Whoever imports
Keras before this package has them too.
"""

import atexit
import gc
import importlib
import sys
from typing import TYPE_CHECKING
from typing import Any

from tf_elastic.version import __version__

if TYPE_CHECKING:
    from tf_elastic import callbacks
    from tf_elastic import core
    from tf_elastic import data
    from tf_elastic import figures
    from tf_elastic import models
    from tf_elastic import monitor
    from tf_elastic import optimizers
    from tf_elastic import strategies
    from tf_elastic import theory

__all__ = [
    "__version__",
    "callbacks",
    "core",
    "data",
    "figures",
    "models",
    "monitor",
    "optimizers",
    "strategies",
    "theory",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# A model is a knot of objects: to look for what is garbage in it takes seconds
# at the end of a process, when all of it is about to go anyway.
atexit.register(gc.freeze)

if "keras" in sys.modules:
    # Keras finds the class of a saved optimizer by the name that its module
    # registers, and imports no module for it.
    importlib.import_module(f"{__name__}.optimizers")
