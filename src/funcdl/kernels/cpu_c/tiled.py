"""An axis in tiles: the names and loops that C code has for it."""

from __future__ import annotations

from dataclasses import dataclass

from funcdl.kernels.cpu_c.loops import Loop
from funcdl.kernels.cpu_c.text import POSITION


@dataclass(frozen=True)
class Tiled:
    """An axis of a product or convolution, and the C names of its tiling.

    A generic axis has C parameters for its extent and for the size of a tile, `bounds`. Arrays have
    room for `room` of its positions, and with `looped` there is a loop even around a single tile.
    """

    axis: str
    extent: int
    size: int
    position: str
    bounds: tuple[str, str] = ("", "")
    room: int = 0
    looped: bool = False

    @property
    def generic(self) -> bool:
        return bool(self.bounds[0])

    @property
    def bound(self) -> str:
        return self.bounds[0] or str(self.extent)

    @property
    def step(self) -> str:
        return self.bounds[1] or str(self.size)

    @property
    def most(self) -> int:
        """How many positions of a tile arrays have room for."""
        return max(self.room, self.size)

    @property
    def single(self) -> bool:
        return self.extent <= self.size and not self.looped

    @property
    def whole(self) -> bool:
        """Whether all tiles have the full size."""
        return self.extent % self.size == 0 and not self.generic

    @property
    def first(self) -> str:
        return "0" if self.single else f"{self.position}_tile"

    @property
    def end(self) -> str:
        if self.single:
            return self.bound
        return f"{self.first} + {self.step}" if self.whole else f"{self.position}_end"

    @property
    def count(self) -> str:
        """How many positions this tile has."""
        if self.single:
            return self.bound
        return self.step if self.whole else f"{self.end} - {self.first}"

    @property
    def inside(self) -> str:
        """The position relative to the tile."""
        return self.position if self.single else f"{self.position} - {self.first}"

    def tiles(self) -> list[Loop]:
        """The loop over tiles, where there is more than one."""
        if self.single:
            return []
        next_ = f"{self.first} + {self.step}"
        end = f"const {POSITION} {self.end} = {next_} < {self.bound} ? {next_} : {self.bound};"
        return [
            Loop(
                self.axis,
                "tile",
                self.first,
                "0",
                self.bound,
                self.step if self.generic else self.size,
                first=() if self.whole else (end,),
                whole=False,
            )
        ]

    def positions(self, pragma: str = "") -> Loop:
        """The loop inside one tile."""
        return Loop(self.axis, "loop", self.position, self.first, self.end, pragma=pragma)
