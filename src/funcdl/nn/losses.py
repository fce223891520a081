"""Losses, with the names and meanings of optax.

The cross-entropies return one number an example: take the mean over a batch yourself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import funcdl.numpy as fnp
from funcdl.core import dtypes
from funcdl.errors import DtypeError, ShapeError
from funcdl.nn.one_hot import is_class
from funcdl.numpy.promotion import promote_inexact
from funcdl.numpy.reductions import normalize_axis
from funcdl.scipy.special.normalized import log_softmax


def softmax_cross_entropy(logits: Any, labels: Any, axis: int = -1) -> Any:
    """``-sum(labels * log_softmax(logits))`` (see `optax.softmax_cross_entropy`).

    Args:
      logits: unnormalised log-probabilities, with classes along `axis`.
      labels: probabilities of the classes, such as `one_hot` vectors; of the shape of `logits`, or
        broadcasting with it.
      axis: the axis of the classes.

    Returns:
      The loss of each example: the shape of `logits` without `axis`.

    Raises:
      ShapeError: the numbers of classes or dimensions differ.
      ArgumentError: there is no such axis.
    """
    logits, labels = promote_inexact("softmax_cross_entropy", logits, labels)
    normalize_axis("softmax_cross_entropy", axis, logits.ndim)
    if logits.ndim != labels.ndim or logits.shape[axis] != labels.shape[axis]:
        raise ShapeError(
            f"softmax_cross_entropy requires labels like logits {logits.aval}, with one "
            f"probability for each class along axis {axis}; got {labels.aval}. For class numbers "
            "use softmax_cross_entropy_with_integer_labels or one_hot"
        )
    log_p = log_softmax(logits, axis=axis)
    # An impossible class that is not the label costs nothing, rather than 0 * inf.
    log_p = fnp.where(fnp.logical_and(labels == 0, log_p == -np.inf), 0, log_p)
    return -fnp.sum(labels * log_p, axis=axis)


def softmax_cross_entropy_with_integer_labels(logits: Any, labels: Any, axis: int = -1) -> Any:
    """``-log_softmax(logits)[label]`` (see `optax.softmax_cross_entropy_with_integer_labels`).

    Args:
      logits: unnormalised log-probabilities, with classes along `axis`.
      labels: the number of each example's class; the shape of `logits` without `axis`. Negative
        numbers count from the end, numbers out of range give NaN.
      axis: the axis of the classes.

    Returns:
      The loss of each example: the shape of `labels`.

    Raises:
      DtypeError: `labels` are no integers.
      ShapeError: they have another shape.
      ArgumentError: there is no such axis.
    """
    name = "softmax_cross_entropy_with_integer_labels"
    (logits,) = promote_inexact(name, logits)
    labels = fnp.asarray(labels)
    if not dtypes.is_integer(labels.dtype):
        raise DtypeError(
            f"{name} requires integer labels, got {labels.aval}; for probabilities use "
            "softmax_cross_entropy"
        )
    wanted = list(logits.shape)
    axis = normalize_axis(name, axis, logits.ndim)
    num_classes = wanted.pop(axis)
    if labels.shape != tuple(wanted):
        raise ShapeError(
            f"{name} requires one label for each example of logits {logits.aval}, so labels of "
            f"shape {tuple(wanted)}; got {labels.aval}"
        )
    if np.iinfo(labels.dtype).max < num_classes:
        labels = labels.astype(np.int32)  # bytes can say which of 256 classes, but not how many
    valid = labels < num_classes
    if labels.dtype.kind == "i":
        # Asked of the labels as they came, this is cheap enough to be asked again by the gradient,
        # which then need not wait for the loss.
        valid = fnp.logical_and(labels >= -num_classes, valid)
    labels = fnp.where(labels < 0, labels + num_classes, labels)
    # A choice and a sum rather than indexing: both fuse with the softmax, forwards and backwards.
    chosen = is_class(labels, num_classes, axis)
    loss = -fnp.sum(fnp.where(chosen, log_softmax(logits, axis=axis), 0), axis=axis)
    return fnp.where(valid, loss, np.nan)


def mse(predictions: Any, targets: Any) -> Any:
    """The mean of squared differences, a scalar.

    It is the mean of what `optax.squared_error` gives.

    Args:
      predictions, targets: arrays of one shape.

    Raises:
      ShapeError: the shapes differ. They do not broadcast, since ``(n,)`` and ``(n, 1)`` would
        silently give all n * n pairs.
    """
    predictions, targets = promote_inexact("mse", predictions, targets)
    if predictions.shape != targets.shape:
        raise ShapeError(
            f"mse requires predictions and targets of one shape, got {predictions.aval} and "
            f"{targets.aval}; reshape one of them"
        )
    return fnp.mean(fnp.square(predictions - targets))
