"""`harness fit`: what fits, before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.cli.console import checked, give, remarks
from harness.errors import EngineError, UsageError

if TYPE_CHECKING:
    import harness.fit.fit
    from harness.cli.output import Output
    from harness.spec import RunSpec


def fit(**given: Any) -> None:
    """Count how many examples fit into each context, by the models' own tokenizers.

    No weights are loaded, but with --load and --probe. Each combination of what is given is a row.
    """
    from harness.cli.flags import LISTED, LOAD, PROBE, REPEATED
    from harness.fit.fit import Order
    from harness.report.fit import fit_answer

    flags = {name: value for name, value in given.items() if value not in (None, [])}
    load, probe = (flags.pop(one.name, False) for one in (LOAD, PROBE))
    texts = {name: flags.pop(name) for name in (*REPEATED, *LISTED) if name in flags}
    several = {name: _values(name, values, name in LISTED, flags) for name, values in texts.items()}
    spec, output = _read({**flags, **{name: values[0] for name, values in several.items()}})
    wanted = checked(output.target)
    order = Order(
        spec=spec,
        data=several.get("data", [spec.data]),
        prompts=several.get("prompt", [spec.prompt]),
        reducers=several.get("reducer", [spec.reducer]),
        feature_fractions=several.get("feature_fraction", [spec.feature_fraction]),
        encodings=several.get("encoding", [spec.encoding]),
        lengths=several.get(
            "max_model_len",
            [spec.max_model_len] if "max_model_len" in spec.model_fields_set else [],
        ),
        load=load,
        probe=probe,
    )
    found = _carry_out(order, output)
    give(fit_answer(found.rows, found.probes), wanted)
    # Behind the rows of all others.
    if found.failures:
        raise EngineError(
            "; ".join(f"{name}: {error}" for name, error in found.failures.items()),
            remedy=" ".join(dict.fromkeys(error.remedy for error in found.failures.values())),
        )


def _read(flags: Mapping[str, Any]) -> tuple[RunSpec, Output]:
    from harness.cli.order import read_order

    order = read_order(flags)
    assert not isinstance(order.what, str)  # a run's id comes of --resume, which is not among these
    return order.what, order.output


def _values(
    name: str, texts: Sequence[str], has_commas: bool, flags: Mapping[str, Any]
) -> list[Any]:
    """The values of a flag, each as a spec has it. Raises `UsageError`."""
    from harness.cli.flags import LISTED_NUMBERS, number

    parts = [part.strip() for text in texts for part in (text.split(",") if has_commas else [text])]
    written = [number(part) if name in LISTED_NUMBERS else part for part in parts]
    values = [getattr(_read({**flags, name: value})[0], name) for value in written]
    if twice := next((one for one in values if values.count(one) > 1), None):
        flag = f"--{name.replace('_', '-')}"
        raise UsageError(f"{flag} is given twice: {twice}", remedy="Give each value once.")
    return values


def _carry_out(order: harness.fit.fit.Order, output: Output) -> harness.fit.fit.Fit:
    from harness.fit.fit import fit
    from harness.report.progress import FitWatch, outlet_of

    given = order.spec.model_fields_set
    with FitWatch(outlet_of(remarks(), not output.quiet, moves=False)) as watch:
        return fit(order, output.results / "logs", given, watch)
