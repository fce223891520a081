"""Data for training: minibatches in random order, prepared ahead, augmented, read from files.

    for images, labels in data.prefetch(data.batches((x, y), 128, key=key, epoch=epoch)):
        params, state = step(params, state, key, images, labels)

Batch number i of epoch e is a function of the arrays, the key, e and i alone. So there is no state
to save: a run goes on from ``epoch=e, start=i``, and each of several processes finds its part of
every batch by itself. Augmentation is a part of the jitted step: pure functions of a key and of
images, which the compiler fuses with what comes after them.

A module of this package may import `funcdl.numpy`, `funcdl.random` and what stands below them, and
never `funcdl.nn`, `funcdl.optim` or `funcdl.image`: it knows of arrays, not of models.

Designs rejected:

* Dataset and loader classes with worker processes, as `torch.utils.data` has them: an item at a
  time, Python runs once for each image, and processes exist to hide that. Here a batch is one
  gather, and augmentation is compiled.
* An iterator that counts epochs and batches itself and has a state to save and load: beside
  `prefetch`, its count is ahead of what the training has seen. A loop's own counters are not.
"""

from __future__ import annotations

from funcdl.absent import getter
from funcdl.data.augmentation import normalize, random_crop, random_erase, random_flip
from funcdl.data.minibatches import batches
from funcdl.data.prefetching import Prefetch, prefetch
from funcdl.data.readers import read_cifar10, read_idx

__getattr__ = getter(__name__)

__all__ = [
    "Prefetch",
    "batches",
    "normalize",
    "prefetch",
    "random_crop",
    "random_erase",
    "random_flip",
    "read_cifar10",
    "read_idx",
]
