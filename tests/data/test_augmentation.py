"""Augmented images against loops over them in NumPy, in every dtype, under `jit` and `vmap`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import funcdl as fd
import funcdl.numpy as fnp
from funcdl import data, random

KEY = random.key(5)
DTYPES = ["bool", "uint8", "int32", "float16", ml_dtypes.bfloat16, "float32", "complex64"]
SHAPES = [
    (4, 5, 3),
    (6, 5, 4, 1),
    (2, 3, 1, 7, 2),
    (0, 4, 4, 3),
    (2, 0, 4, 3),
    (2, 4, 0, 3),
    (2, 3, 3, 0),
]
CHANGES: dict[str, Callable[[Any, Any], Any]] = {
    "crop": lambda key, x: data.random_crop(key, x, 2, fill=1),
    "crop by both": lambda key, x: data.random_crop(key, x, (0, 9)),
    "flip": data.random_flip,
    "erase": lambda key, x: data.random_erase(key, x, 2, fill=1),
    "erase both": lambda key, x: data.random_erase(key, x, (1, 30)),
}


def numbered(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    """Images whose pixels all differ, from 2 on, where the dtype has so many numbers."""
    return (np.arange(np.prod(shape)) % 200 + 2).reshape(shape).astype(dtype)


def crops(image: Any, pads: tuple[int, int], fill: Any) -> list[Any]:
    """All that a crop can make of an image."""
    height, width = image.shape[:2]
    padded = np.full((height + 2 * pads[0], width + 2 * pads[1], image.shape[2]), fill, image.dtype)
    padded[pads[0] : pads[0] + height, pads[1] : pads[1] + width] = image
    corners = itertools.product(*(range(2 * pad + 1) for pad in pads))
    return [padded[y : y + height, x : x + width] for y, x in corners]


def erasures(image: Any, sides: tuple[int, int], fill: Any) -> list[Any]:
    """All that an erasure can make of an image."""
    made = []
    for centre in itertools.product(*map(range, image.shape[:2])):
        first = [max(c - side // 2, 0) for c, side in zip(centre, sides, strict=True)]
        last = [c - side // 2 + side for c, side in zip(centre, sides, strict=True)]
        copy = image.copy()
        copy[first[0] : last[0], first[1] : last[1]] = fill
        made.append(copy)
    return made


def which(found: Any, candidates: list[Any]) -> int:
    (index, *_) = [i for i, c in enumerate(candidates) if np.array_equal(c, found)]
    return index


POSSIBLE: dict[str, Callable[[Any], list[Any]]] = {
    "crop": lambda image: crops(image, (2, 2), 1),
    "crop by both": lambda image: crops(image, (0, 9), 0),
    "flip": lambda image: [image, image[:, ::-1]],
    "erase": lambda image: erasures(image, (2, 2), 1),
    "erase both": lambda image: erasures(image, (1, 30), 0),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("name", CHANGES)
def test_each_image_is_one_of_the_possible_ones(name: str, dtype: Any) -> None:
    images = numbered((6, 5, 4, 3), dtype)
    found = np.asarray(CHANGES[name](KEY, images))
    assert found.dtype == images.dtype
    for image, changed in zip(images, found, strict=True):
        which(changed, POSSIBLE[name](image))


@pytest.mark.parametrize("name", CHANGES)
def test_all_possible_images_are_as_likely(name: str) -> None:
    image = numbered((3, 2, 1))
    candidates = POSSIBLE[name](image)
    counts = np.zeros(len(candidates))
    total = 200 * len(candidates)
    found = np.asarray(CHANGES[name](KEY, np.broadcast_to(image, (total, *image.shape))))
    for changed in found:
        counts[which(changed, candidates)] += 1
    # Candidates that are the same are counted as the first.
    firsts = [which(c, candidates) for c in candidates]
    expected = 200.0 * np.bincount(firsts, minlength=len(candidates))
    deviation = np.sqrt(expected * (1 - expected / total))
    assert (np.abs(counts - expected) <= 5 * deviation).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", CHANGES)
def test_shapes_and_transforms(name: str, shape: tuple[int, ...]) -> None:
    change, images = CHANGES[name], numbered(shape)
    found = np.asarray(change(KEY, images))
    assert found.shape == shape
    np.testing.assert_array_equal(fd.jit(change)(KEY, images), found)
    if len(shape) == 3:
        return
    # Each image with a key of its own.
    keys = random.split(KEY, shape[0])
    mapped = np.asarray(fd.vmap(change)(keys, images))
    assert mapped.shape == shape
    for key, image, one in zip(keys, images, mapped, strict=True):
        np.testing.assert_array_equal(change(key, image), one)


@pytest.mark.parametrize("name", CHANGES)
def test_no_loop_over_images_is_traced(name: str) -> None:
    texts = [
        str(fd.make_jaxpr(CHANGES[name])(KEY, np.zeros((count, 8, 8, 3), np.uint8)))
        for count in (3, 300)
    ]
    assert len({text.count("\n") for text in texts}) == 1
    assert not any(loop in texts[0] for loop in ("scan", "while"))


def test_derivatives_go_to_the_pixels_that_are_left() -> None:
    images = numbered((3, 4, 4, 2))
    for change in CHANGES.values():
        slope = fd.grad(lambda x, change=change: (change(KEY, x) * x.sum(where=False)).sum())
        assert np.asarray(slope(images)).shape == images.shape
    weights = fd.grad(lambda x: data.random_erase(KEY, x, 2).sum())(images)
    kept = np.asarray(data.random_erase(KEY, images, 2)) != 0
    np.testing.assert_array_equal(weights, kept.astype(np.float32))


def test_a_fill_for_each_channel() -> None:
    images = numbered((2, 3, 3, 3), np.uint8)
    fill = np.array([7, 8, 9], np.uint8)
    erased = np.asarray(data.random_erase(KEY, images, 99, fill=fill))
    np.testing.assert_array_equal(erased, np.broadcast_to(fill, images.shape))
    cropped = np.asarray(data.random_crop(KEY, images, 2, fill=fill))
    for image, changed in zip(images, cropped, strict=True):
        which(changed, crops(image, (2, 2), fill))


@pytest.mark.parametrize("dtype", ["uint8", "float16", ml_dtypes.bfloat16, "float32", "float64"])
@pytest.mark.parametrize("jitted", [False, True])
def test_normalize(dtype: Any, jitted: bool) -> None:
    images = numbered((2, 3, 4, 3), "uint8")
    mean, std = np.array([0.4, 0.5, 0.6]), (0.2, 0.25, 0.3)
    expected = (images / 255 - mean) / np.array(std)
    given = images if dtype == "uint8" else (images / 255).astype(dtype)

    def normalized(x: Any) -> Any:
        return data.normalize(x, mean, std)

    found = (fd.jit(normalized) if jitted else normalized)(given)
    wanted = np.dtype(np.float32 if dtype == "uint8" else dtype)
    assert found.dtype == wanted
    bound = 16 * float(ml_dtypes.finfo(wanted).eps)
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, atol=bound, rtol=bound)


def test_normalize_with_one_number_and_no_image() -> None:
    np.testing.assert_allclose(data.normalize(np.full((1, 1, 3), 255, np.uint8), 0.5, 0.5), 1.0)
    assert data.normalize(np.zeros((0, 4, 4, 3), np.uint8), 0.5, 0.5).shape == (0, 4, 4, 3)
    both = fd.vmap(lambda x, m: data.normalize(x, m, 2.0))(np.ones((2, 3, 3, 1)), fnp.arange(2.0))
    assert np.asarray(both)[:, 0, 0, 0].tolist() == [0.5, 0.0]
