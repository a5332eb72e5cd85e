"""torchao's remarks on import are silent, and whatever else is said is heard."""

import logging
import subprocess
import sys
import warnings

import pytest

from kdref.lab.training.remarks import quiet_torchao

REMARK = "%s is an Enum subclass and is now natively supported"


def test_the_remarks_are_silent_for_a_while_and_others_are_not(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("torch.utils._pytree")
    with quiet_torchao():
        log.warning(REMARK, "X")
        warnings.warn("invalid escape sequence '\\.'", DeprecationWarning, stacklevel=1)
        log.warning("something else")
        with pytest.warns(UserWarning, match="something else"):
            warnings.warn("something else", UserWarning, stacklevel=1)
    assert [record.getMessage() for record in caplog.records] == ["something else"]
    log.warning(REMARK, "X")
    assert len(caplog.records) == 2


def test_an_encoder_is_loaded_without_a_word() -> None:
    code = "from kdref.lab.models import sentence_encoder as e; e.encoder(layers=[0], seed=0); e.tokens(['a'])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_int8_weights_are_made_without_a_word() -> None:
    code = "from torch import nn; from kdref.lab import edge; edge.int8_weights(nn.Linear(2, 2))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
