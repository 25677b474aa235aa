"""The file of embeddings, in the three forms that `harness run --data` reads.

Each is written row by row, under another name first, and holds nothing that differs from one time
to the next: the same images give the same file. The metadata says how the vectors were made.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from harness.errors import UsageError
from harness.workload.images import SPLITS, ImageFile

_ROWS = 4096  # written at once
METADATA = "embedding"  # the key, or the name of the file, that has it


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """`images` (n) that were embedded, in order, and their `vectors` (n, d), float32."""

    images: Sequence[ImageFile]
    vectors: NDArray[np.float32]
    metadata: Mapping[str, Any]


def check_form(out: Path) -> None:
    """Raises `UsageError` for a name whose form is not known."""
    if out.suffix.lower() not in ("", ".parquet", ".npz"):
        raise UsageError(
            f"-o {out} ends in {out.suffix}",
            remedy="Name a .parquet or .npz file, or a folder (no ending).",
        )


def write(out: Path, scratch: Path, embeddings: Embeddings) -> None:
    """Writes to a place in the folder `scratch` first, and then moves that to `out`."""
    form = out.suffix.lower()
    fresh = scratch / f"result{form}"
    if fresh.is_dir():
        shutil.rmtree(fresh)
    {".parquet": _write_parquet, ".npz": _write_npz, "": _write_folder}[form](fresh, embeddings)
    fresh.rename(out)


def _write_parquet(path: Path, embeddings: Embeddings) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    width = embeddings.vectors.shape[1]
    names = json.dumps([image.stored_place for image in embeddings.images])
    schema = pa.schema(
        [
            ("split", pa.string()),
            ("label", pa.string()),
            ("embedding", pa.list_(pa.float32(), width)),
        ],
        metadata={METADATA: json.dumps(embeddings.metadata), "images": names},
    )
    with parquet.ParquetWriter(path, schema) as writer:
        for images, vectors in _parts(embeddings):
            columns = [
                pa.array([image.split for image in images], pa.string()),
                pa.array([image.label for image in images], pa.string()),
                pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), width),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def _write_npz(path: Path, embeddings: Embeddings) -> None:
    """As `numpy.savez_compressed` would, without a copy of all vectors in memory."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for split in SPLITS:
            rows = [at for at, image in enumerate(embeddings.images) if image.split == split]
            images = [embeddings.images[at] for at in rows]
            _add_vectors(archive, f"X_{split}", embeddings.vectors[rows[0] : rows[-1] + 1])
            _add(archive, f"y_{split}", np.array([image.label for image in images]))
            _add(archive, f"images_{split}", np.array([image.stored_place for image in images]))
        _add(archive, METADATA, np.array(json.dumps(embeddings.metadata)))


def _add(archive: zipfile.ZipFile, name: str, values: NDArray[Any]) -> None:
    with archive.open(_member(name), "w", force_zip64=True) as stream:
        npy.write_array(stream, values, allow_pickle=False)


def _add_vectors(archive: zipfile.ZipFile, name: str, vectors: NDArray[np.float32]) -> None:
    with archive.open(_member(name), "w", force_zip64=True) as stream:
        header = {"descr": "<f4", "fortran_order": False, "shape": vectors.shape}
        npy.write_array_header_1_0(stream, header)
        for start in range(0, len(vectors), _ROWS):
            stream.write(np.ascontiguousarray(vectors[start : start + _ROWS]).tobytes())


def _member(name: str) -> zipfile.ZipInfo:
    # Without a date, which would be another one each time.
    info = zipfile.ZipInfo(f"{name}.npy")
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def _write_folder(path: Path, embeddings: Embeddings) -> None:
    """embeddings_train/CLASS/NAME.npy: the layout of the project that this one grew out of."""
    for image, name, vector in zip(
        embeddings.images, _names(embeddings.images), embeddings.vectors, strict=True
    ):
        folder = path / f"embeddings_{image.split}" / image.label
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.npy", np.array(vector), allow_pickle=False)
    text = json.dumps(embeddings.metadata, indent=2)
    (path / f"{METADATA}.json").write_text(text, encoding="utf-8")


def _names(images: Sequence[ImageFile]) -> Iterator[str]:
    """The name of each without its ending, or with it where two would be one. A file whose name
    begins with a dot would be passed over."""
    stems = [(image.split, image.label, Path(image.name).stem.casefold()) for image in images]
    seen: dict[tuple[str, str, str], int] = {}
    for stem in stems:
        seen[stem] = seen.get(stem, 0) + 1
    for image, stem in zip(images, stems, strict=True):
        name = Path(image.name).stem if seen[stem] == 1 else image.name
        yield f"_{name}" if name.startswith(".") else name


def _parts(
    embeddings: Embeddings,
) -> Iterator[tuple[Sequence[ImageFile], NDArray[np.float32]]]:
    for start in range(0, len(embeddings.images), _ROWS):
        rows = slice(start, start + _ROWS)
        yield embeddings.images[rows], np.ascontiguousarray(embeddings.vectors[rows])
