"""`harness embed`: images to a dataset of embeddings."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from inspect import Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli.console import give, remarks, target, tell
from harness.cli.options import FormatOption, JsonOption
from harness.errors import EndedBySignal, UsageError

if TYPE_CHECKING:
    from harness.embedding.run import Result
    from harness.report.formats import Answer

_SHOWN = 20  # skipped files that a table lists; JSON has all


def embed(
    images: Annotated[
        Path,
        typer.Argument(metavar="IMAGES", help="Folder of {train,test}/CLASS/* images."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="What is written: a .parquet or .npz file, or a folder of one .npy an image.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="A folder with a vision model of transformers, or the name of one that is in the "
            "hub's cache. Default: efficientnet-lite0, whose weights come in a package.",
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer",
            metavar="N[,M...]",
            help="Blocks whose vectors are taken, counted from 1, or last; several are joined. "
            "Default: last.",
        ),
    ] = None,
    pooling: Annotated[
        Literal["cls", "mean", "pooler"] | None,
        typer.Option(
            "--pooling",
            help="One vector of all patches: the class token, the mean, or the model's pooler. "
            "Default: cls where the model has a class token, else mean.",
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            "--image-size",
            metavar="N",
            min=1,
            max=4096,
            help="Both sides of the images that go in, in pixels. Default: the model's own.",
        ),
    ] = None,
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size", metavar="N", min=1, max=4096, help="Images that go in at once."
        ),
    ] = 8,
    format_: FormatOption = None,
    json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")] = False,
    **how: Any,  # the options of the embedder: see `flags`
) -> None:
    """Make embeddings of images, for `harness run --data`.

    What is done is stored in OUT.part. After any end, the same command goes on with it. Files that
    cannot be read are counted, named and left out.
    """
    from harness.contract import DEFAULT_EMBEDDER, EmbedderOptions
    from harness.embedding.run import EmbedOrder
    from harness.embedding.run import embed as make
    from harness.report.progress import EmbedWatch, outlet_of

    wanted = target(format_, json, None)
    options = EmbedderOptions(
        layers=parse_layers(layer),
        pooling=pooling,
        image_size=image_size,
        batch=batch_size,
        **_checked({name: value for name, value in how.items() if value is not None}),
    )
    order = EmbedOrder(images, out, model or DEFAULT_EMBEDDER, options)
    try:
        with EmbedWatch(outlet_of(remarks(), not quiet)) as watch:
            result = make(order, watch)
    except EndedBySignal:
        tell("Interrupted. What is done is stored; the same command goes on with it.")
        raise
    give(embed_answer(result), wanted)


def flags() -> Signature:
    """The command's own, and those of the embedder's options."""
    from harness.cli.flags import of_options, signature
    from harness.engine.registry import EMBEDDER

    own = [
        one
        for one in inspect.signature(embed, eval_str=True).parameters.values()
        if one.kind is not one.VAR_KEYWORD
    ]
    every = [*own, *signature(of_options(EMBEDDER.load().OPTIONS)).parameters.values()]
    # A signature wants them by kind, and Typer reads all of them by name.
    return Signature([one.replace(kind=one.KEYWORD_ONLY) for one in every])


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    from harness.engine.options import check_given
    from harness.engine.registry import EMBEDDER

    check_given(given, EMBEDDER.load(), EMBEDDER.name)
    return given


def parse_layers(text: str | None) -> tuple[str, ...]:
    """Raises `UsageError`."""
    from harness.contract import LAST

    layers = tuple(part.strip() for part in (text or LAST).split(","))
    if not all(part == LAST or part.isdecimal() for part in layers):
        raise UsageError(
            f"--layer {text!r} is no list of blocks", remedy="For example: --layer 4,8,last."
        )
    if len(set(layers)) != len(layers):
        raise UsageError(f"--layer {text!r} names a layer twice", remedy="Name each once.")
    return layers


def embed_answer(result: Result) -> Answer:
    from rich.console import Group

    from harness.report.formats import Answer
    from harness.report.table import simple_table
    from harness.report.text import lines, number

    info = result.info
    rows = [[split, label, f"{count:,}"] for split, label, count in result.counts]
    table = simple_table(("split", "class", "images"), rows, numbers=["images"])
    rate = result.embedded_now / result.embed_seconds if result.embed_seconds else 0.0
    facts = [
        f"{result.out}: {info.dimensions:,} numbers an image; {info.model}, layer "
        f"{', '.join(info.layers)}, {info.pooling} pooling; {info.dtype} on {info.device}",
        f"{result.embedded_now:,} images at {number(rate)} images/s"
        + (f"; peak memory {number(result.peak_rss_mib)} MiB" if result.peak_rss_mib else ""),
        *_listed("skipped", result.skipped),
        *_listed("noted", result.notes),
        f"Use it with: harness run --data {result.out}",
    ]
    records = [
        {"split": split, "class": label, "images": count} for split, label, count in result.counts
    ]
    data = {
        "output": str(result.out),
        "embedder": {**asdict(info), "layers": list(info.layers)},
        "images": records,
        "skipped": [asdict(one) for one in result.skipped],
        "notes": [asdict(one) for one in result.notes],
        "images_embedded_now": result.embedded_now,
        "embed_seconds": result.embed_seconds,
        "images_per_second": rate,
        "peak_rss_mib": result.peak_rss_mib,
    }
    return Answer(Group(table, "", lines(*facts)), data, records)


def _listed(what: str, remarks: Any) -> list[str]:
    found = [f"{what}: {one.file}: {one.reason}" for one in remarks[:_SHOWN]]
    more = len(remarks) - len(found)
    return [*found, *([f"{what}: {more} more; --json lists all"] if more else [])]
