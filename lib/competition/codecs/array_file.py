"""Answers as arrays: datasets of HDF5 files, and NumPy files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lib.competition.codecs.file_form import ROWS_PER_STRIP, FileForm, Part, check_shape, copy_on_disk
from lib.config.competition import CompetitionSettings
from lib.errors import UserError, reading
from lib.imaging.readers.base import optional
from lib.plugins import register


class ArrayFile(FileForm):
    """What both forms share: (H, W) uint8, or (H, W, 3) for colours, read by bands."""

    colours = True

    def shape(self, size: tuple[int, int]) -> tuple[int, ...]:
        return size if self.samples == 1 else (*size, self.samples)

    def bands_of(self, where: str, array, size: tuple[int, int]) -> Iterator[Part]:
        """Bands of anything that is sliced as an array. Raises UserError where it is of another type or shape."""
        if array.dtype != np.uint8:
            raise UserError(f"{where} has values of {array.dtype}; uint8 is expected")
        check_shape(where, array.shape, size, self.samples)
        for y in range(0, size[0], ROWS_PER_STRIP):
            with reading(where, "damaged"):
                band = np.array(array[y : y + ROWS_PER_STRIP])
            yield y, 0, band


@register("answer_file", ".h5")
@register("answer_file", ".hdf5")
class Hdf5File(ArrayFile):
    """One dataset, called `submission.dataset`."""

    def __init__(self, config: CompetitionSettings, samples: int):
        super().__init__(config, samples)
        self._h5py = optional("h5py", "h5py", Path(config.submission.id_template))

    def encode(self, file: BinaryIO, size: tuple[int, int], bands: Iterator[np.ndarray], image: Path | None) -> None:
        shape = self.shape(size)
        chunk = (min(ROWS_PER_STRIP, size[0]), *shape[1:])
        with self._h5py.File(file, "w", libver=("earliest", "v110")) as target:
            dataset = target.create_dataset(
                self.config.submission.dataset, shape, np.uint8, chunks=chunk, compression="gzip", track_times=False
            )
            y = 0
            for band in bands:
                dataset[y : y + len(band)] = band
                y += len(band)

    def decode(self, where: str, file: BinaryIO, size: tuple[int, int], image: Path | None) -> Iterator[Part]:
        name = self.config.submission.dataset
        with copy_on_disk(file, ".h5") as copy:
            with reading(where, "not a readable HDF5"):
                source = self._h5py.File(copy, "r")
            with source:
                dataset = source.get(name)
                if not isinstance(dataset, self._h5py.Dataset):
                    raise UserError(
                        f"{where} has no dataset {name!r} (competition.submission.dataset); it has "
                        f"{', '.join(source) or 'none'}"
                    )
                yield from self.bands_of(where, dataset, size)


@register("answer_file", ".npy")
class NpyFile(ArrayFile):
    """An array of NumPy."""

    def encode(self, file: BinaryIO, size: tuple[int, int], bands: Iterator[np.ndarray], image: Path | None) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": self.shape(size)}
        np.lib.format.write_array_header_1_0(file, header)
        for band in bands:
            file.write(np.ascontiguousarray(band).tobytes())

    def decode(self, where: str, file: BinaryIO, size: tuple[int, int], image: Path | None) -> Iterator[Part]:
        with copy_on_disk(file, ".npy") as copy:
            with reading(where, "not a readable array"):
                array = np.load(copy, mmap_mode="r")
            if not isinstance(array, np.ndarray):
                array.close()
                raise UserError(f"{where} is an archive of arrays; one array is expected")
            yield from self.bands_of(where, array, size)
