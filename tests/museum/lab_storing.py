"""Wrong versions of what stores and reads a teacher's outputs."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdref.lab.training.stored import StoredOutputs
from tests.museum import exhibit

STORING = "lab/training/test_storing.py::"
REFUSED = "lab/training/test_storing_refused.py::"


@exhibit(
    replaces="kdref.lab.training.stored:StoredOutputs",
    seen_in="peremartra/optipfair #34: padding counts like words",
    killed_by=(STORING + "test_a_padded_entry_never_counts_as_word_0",),
)
class PaddedWithWord0(StoredOutputs):
    """Shorter texts are filled up with zeros: word 0, of probability 1."""

    @staticmethod
    def padded(examples: Any) -> dict[str, Tensor]:
        """Fill up with zeros."""
        pad = torch.nn.utils.rnn.pad_sequence
        batch = {name: pad([example[name] for example in examples], batch_first=True) for name in examples[0]}
        return batch | {"mask": StoredOutputs.padded(examples)["mask"]}


@exhibit(
    replaces="kdref.lab.training.storing:_claim",
    seen_in="a likely slip: files are told apart by their names alone",
    killed_by=(REFUSED + "test_nothing_is_mixed",),
)
def whatever_is_there(folder: Path, provenance: dict[str, Any]) -> None:
    """Outputs of several teachers, data or tokenisers come into one folder."""
    folder.mkdir(exist_ok=True)


@exhibit(
    replaces="kdref.lab.training.fingerprints:of_teacher",
    seen_in="a likely slip: the hash is of the names of the weights",
    killed_by=(REFUSED + "test_a_reader_refuses_other_data_teachers_and_tokenisers",),
)
def hash_of_names(teacher: torch.nn.Module) -> str:
    """A teacher trained anew has the names of the one before: its outputs are taken for the other's."""
    return " ".join(teacher.state_dict())


@exhibit(
    replaces="kdref.lab.training.stored:whole",
    seen_in="a likely slip: a file that is there counts as done, and its hash is compared by nobody",
    killed_by=(STORING + "test_a_damaged_shard_is_noticed_and_made_anew[one bit]",),
)
def never_compared(path: Path) -> bool:
    """What has changed on the disk is read as if it were the teacher's."""
    return True
