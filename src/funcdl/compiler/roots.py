"""Roots of unity, and chirps made of them, in float64: the constants of Fourier transforms."""

from __future__ import annotations

from typing import Any

import numpy as np

NDArray = np.ndarray[Any, Any]


def prime_factors(n: int) -> list[int]:
    """The prime factors of a number, the smallest first."""
    found, prime = [], 2
    while prime * prime <= n:
        while n % prime == 0:
            found.append(prime)
            n //= prime
        prime += 1
    return [*found, n] if n > 1 else found


def roots_of_unity(powers: NDArray, order: int) -> NDArray:
    """exp(-2 pi i k / n), from angles of at most an eighth of a turn, where no digit is lost."""
    eighths = 8 * powers.astype(np.int64) + order
    quarter = eighths // (2 * order) % 4
    angle = (eighths % (2 * order) - order) * (np.pi / (4 * order))
    return np.asarray(np.exp(-1j * angle) * np.array([1, -1j, -1, 1j])[quarter])


def padded_length(length: int) -> int:
    """A length at which convolutions with chirps do not wrap around, and with small factors."""
    least = 2 * length - 1
    powers = [factor << max(-(-least // factor) - 1, 0).bit_length() for factor in (1, 3, 5)]
    return min(n for n in powers if n >= least)


def chirps(length: int, padded: int) -> tuple[NDArray, NDArray]:
    """exp(-pi i k^2 / n), and the spectrum of their conjugates over the padded length.

    The spectrum is divided by that length, for an inverse transform that is not.
    """
    chirp = roots_of_unity(np.arange(length, dtype=np.int64) ** 2 % (2 * length), 2 * length)
    around = np.zeros(padded, np.complex128)
    around[:length] = np.conj(chirp)
    around[padded - length + 1 :] = np.conj(chirp[:0:-1])
    return chirp, np.fft.fft(around) / padded
