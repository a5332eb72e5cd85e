"""The encoder of lesson 11 with int8 layers, int8 word embeddings, or both: bytes, time, and what it still tells.

What it answers is a sentence's vector, the mean over its tokens. A logistic regression on the fp32 vectors of 1,000
sentences says of 1,000 others whether they praise; then the same one reads the vectors of the int8 encoders. A seed
draws which sentences. Time is the processor's own, per sentence, so that others at work don't count. Lesson:
notebooks/14_edge.ipynb.
"""

import functools
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdref.lab import edge
from kdref.lab.data import snippets
from kdref.lab.models.sentence_encoder import PADDING, encoder, tokens

SEEDS = tuple(range(8))
OPERATORS = {"fp32": [], "layers": ["MatMul", "Gemm"], "embeddings": ["Gather"], "both": ["MatMul", "Gemm", "Gather"]}
ARMS = tuple(OPERATORS)
TRAINING, TIMED = 1000, 50  # sentences


class Vectors(nn.Module):
    """Numbers of word pieces ``(B, L)`` to the mean of their last hidden states."""

    def __init__(self) -> None:
        """See the class."""
        super().__init__()
        self.encoder = encoder()

    def forward(self, ids: Tensor) -> Tensor:
        """See the class."""
        mask = ids != PADDING
        hidden: Tensor = self.encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return (hidden * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)


class Encoded(NamedTuple):
    """What a file makes of the sentences, and what it costs."""

    vectors: Tensor
    bytes: int
    milliseconds: float


@functools.lru_cache(maxsize=1)
def known() -> tuple[Tensor, Tensor]:
    """Two thousand sentences as numbers, and whether they praise."""
    data = snippets()
    ids = tokens([*data.validation.texts, *data.test.texts[:TRAINING]])
    return ids, torch.cat([data.validation.y, data.test.y[:TRAINING]])


@functools.lru_cache(maxsize=1)
def exported() -> bytes:
    """The fp32 file."""
    with tempfile.TemporaryDirectory() as folder:
        return edge.to_onnx(Vectors(), known()[0][:4], Path(folder) / "fp32.onnx", free=(0, 1)).read_bytes()


@functools.lru_cache(maxsize=len(ARMS))
def encoded(arm: str) -> Encoded:
    """All sentences by the encoder of an arm."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    ids = known()[0]
    lengths = (ids != PADDING).sum(dim=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fp32.onnx"
        path.write_bytes(exported())
        if OPERATORS[arm]:
            target = path.with_name("int8.onnx")
            quantize_dynamic(path, target, op_types_to_quantize=OPERATORS[arm], weight_type=QuantType.QInt8)
            path = target
        size, session = edge.file_bytes(path), edge.session(path)
    vectors, order = torch.zeros(len(ids), 384), lengths.argsort(stable=True)
    for rows in order.split(32):
        vectors[rows] = said(session, ids[rows, : int(lengths[rows].max())])
    began = time.process_time()
    for row in range(TIMED):
        said(session, ids[row : row + 1, : int(lengths[row])])
    return Encoded(vectors, size, (time.process_time() - began) / TIMED * 1000)


def said(session: Any, ids: Tensor) -> Tensor:
    """A file's answer."""
    answer: Tensor = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: ids.numpy()})[0])
    return answer


def run(seed: int, arm: str) -> dict[str, float]:
    from sklearn.linear_model import LogisticRegression

    y, (plain, here) = known()[1], (encoded("fp32"), encoded(arm))
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    rows, others = order[:TRAINING], order[TRAINING:]
    reader = LogisticRegression(max_iter=1000).fit(plain.vectors[rows].numpy(), y[rows].numpy())
    return {
        "accuracy": float(reader.score(here.vectors[others].numpy(), y[others].numpy())),
        "cosine": F.cosine_similarity(here.vectors, plain.vectors).mean().item(),
        "bytes": float(here.bytes),
        "milliseconds": here.milliseconds,
    }
