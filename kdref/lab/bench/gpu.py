"""Every loss on a GPU, the fused one beside Liger-Kernel's and the dense form: ``python -m kdref.lab.bench gpu``."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from kdref.lab.bench import inside, losses, peers, timing
from kdref.lab.bench.peers import Loss
from kdref.lab.bench.row import Row
from kdref.lab.bench.vocabulary import dense, layers, value_and_gradients
from kdref.language import fused_linear_loss

__all__ = ["KINDS", "NO_GPU", "SHAPES", "losses_table", "run", "vocabulary_table"]

NO_GPU = "This benchmark measures losses on a GPU, and torch finds none here: nothing was measured."
DTYPES = (torch.bfloat16, torch.float32)
SHAPES = ((4096, 2048, 4096, 128_256), (8192, 2048, 2048, 151_936))  # tokens, width of student and teacher, words
KINDS: Mapping[str, tuple[str, float | None, float | None]] = {  # our kind and mix, and Liger-Kernel's beta
    "forward KL": ("forward", None, 0.0),
    "reverse KL": ("reverse", None, 1.0),
    "Jensen-Shannon, 1/2": ("jensen_shannon", 0.5, 0.5),
    "skew, 1/10": ("skew_forward", 0.1, None),
}
ROUNDS = 5  # of the fused loss, which is slow
LEGEND = "Forward and backward, not compiled. A cell is ms, MB: one call's time, and its peak memory beyond the inputs."
FUSED_LEGEND = (
    "The fused loss, gradients included. Liger-Kernel's is compiled, as its users run it; dense is `token_loss` of "
    "projected logits."
)


def run(repeats: int) -> str:
    """Measure everything on the GPU, or say that there is none."""
    if not torch.cuda.is_available():
        return NO_GPU
    missing: dict[str, str] = {}
    tables = [f"{LEGEND}\n", losses_table(repeats), f"\n{FUSED_LEGEND}\n", vocabulary_table(missing=missing)]
    return "\n".join([torch.cuda.get_device_name(), *peers.skipped(missing), "", *tables, "", *map(_rate, DTYPES)])


def losses_table(
    repeats: int,
    rows: Sequence[Row] = (*losses.ROWS, *inside.ROWS),
    device: str = "cuda",
    dtypes: Sequence[torch.dtype] = DTYPES,
) -> str:
    """Each loss beside its plain form."""
    lines = []
    for row in rows:
        for size in row.sizes:
            for dtype in dtypes:
                inputs = [_to(x, device, dtype) for x in row.inputs(*size)]
                forms = {"ours": row.ours, "textbook": row.plain}
                with torch.device(device):  # modules and constants that a form makes for itself
                    calls = {name: partial(losses.value_and_gradient, form, *inputs) for name, form in forms.items()}
                    cells = _measure(calls, max(1, repeats // row.share), device)
                lines.append([row.loss, f"({', '.join(map(str, size))})", _name(dtype), *cells.values()])
    return timing.markdown(["loss", "shape", "type", "ours", "textbook"], lines)


def vocabulary_table(
    shapes: Sequence[tuple[int, int, int, int]] = SHAPES,
    device: str = "cuda",
    dtypes: Sequence[torch.dtype] = DTYPES,
    missing: dict[str, str] | None = None,
) -> str:
    """The fused loss beside Liger-Kernel's and the dense form."""
    lines = []
    for shape in shapes:
        tokens, width, teacher_width, words = shape
        for dtype in dtypes:
            inputs = [_to(x, device, dtype) for x in layers(tokens, width, words, teacher_width=teacher_width)]
            for name, (kind, mix, beta) in KINDS.items():
                published = {} if beta is None else {"liger": partial(peers.liger, beta, compiled=True)}
                forms: dict[str, Loss] = {
                    "ours": partial(fused_linear_loss, kind=kind, mix=mix),
                    **peers.present(published, {} if missing is None else missing),
                    "dense": partial(dense, kind=kind, mix=mix),
                }
                calls = {form: partial(value_and_gradients, loss, *inputs) for form, loss in forms.items()}
                torch.compiler.reset()  # or a second shape gets code for any shape, and a ninth none at all
                cells = _measure(calls, ROUNDS, device)
                lines.append([name, str(shape), _name(dtype), *(cells.get(f, "-") for f in ("ours", "liger", "dense"))])
    return timing.markdown(["loss", "(N, H, H', V)", "type", "ours", "liger", "dense"], lines)


def _measure(calls: Mapping[str, Callable[[], object]], repeats: int, device: str) -> dict[str, str]:
    """Milliseconds and megabytes of each call; one that does not fit into memory says so."""
    cells, fitting = {}, {}
    for name, call in calls.items():
        try:
            call()
            fitting[name] = partial(_finished, call, device)
        except torch.OutOfMemoryError:
            cells[name] = "out of memory"
    seconds = timing.interleaved(fitting, repeats=repeats) if fitting else {}
    for name, call in fitting.items():
        megabytes = (_peak(call) if device == "cuda" else timing.peak_extra_memory(call)) / 1e6
        cells[name] = f"{statistics.median(seconds[name]) * 1000:.2f}, {megabytes:.0f}"
    return {name: cells[name] for name in calls}


def _finished(call: Callable[[], object], device: str) -> None:
    """Call, and wait until the device is done: a GPU works on after the call has returned."""
    call()
    if device == "cuda":
        torch.cuda.synchronize()


def _peak(call: Callable[[], object]) -> int:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return torch.cuda.max_memory_allocated() - before


def _to(x: Tensor, device: str, dtype: torch.dtype) -> Tensor:
    return x.to(device, dtype) if x.is_floating_point() else x.to(device)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _rate(dtype: torch.dtype) -> str:
    """How fast the GPU multiplies, which bounds the fused loss."""
    a = torch.randn(8192, 8192, device="cuda", dtype=dtype)  # of equal numbers a GPU multiplies more
    seconds = timing.interleaved({"multiply": partial(_finished, lambda: a @ a, "cuda")}, repeats=10)
    rate = 2 * 8192**3 / statistics.median(seconds["multiply"]) / 1e12
    return f"Products of matrices in {_name(dtype)}: {rate:.0f} TFLOP/s"
