"""The CIFAR-100 example runs whole on random images, and each of its losses fits both pairs of networks."""

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from kdref.lab.course.copying import copyable
from tests.course.scripts import EXAMPLES, imported, refusal

PAIRS = [("resnet32x4", "resnet8x4"), ("vgg13", "MobileNetV2")]
NOT_FOR_NETWORKS = {  # of lessons 01 to 05: parts of losses that are there, other outputs, other architectures
    "kl_divergence soft_target_loss softened_probabilities target_class_divergence nontarget_class_divergence",
    "standardize_logits label_smoothing_loss virtual_teacher_logits multi_label_loss attention_map value_relation",
    "attention_relation_divergence attention_score_loss fsp_matrix margin_relu",
}


@pytest.fixture(scope="module")
def modules() -> dict[str, ModuleType]:
    names = ("cifar100_data", "cifar100_networks", "cifar100_losses", "cifar100")
    return {name: imported(name) for name in names}


@pytest.fixture(scope="module")
def networks(modules: dict[str, ModuleType]) -> dict[str, torch.nn.Module]:
    made = {name: modules["cifar100_networks"].make(name, 0) for pair in PAIRS for name in pair}
    for teacher, _ in PAIRS:
        made[teacher].eval().requires_grad_(False)
    return made


def test_every_loss_of_lessons_01_to_05_is_there(modules: dict[str, ModuleType]) -> None:
    source = (EXAMPLES / "cifar100_losses.py").read_text(encoding="utf-8")
    topics = ("soft_targets", "response", "feature", "attention", "relation")
    names = [name for file, found in copyable().items() if file.partition(".")[0] in topics for name in found]
    left_out = {word for line in NOT_FOR_NETWORKS for word in line.split()}
    assert [name for name in names if name not in left_out and name not in source] == []
    assert [name for name in left_out if name not in names] == []


@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_each_loss_is_finite_and_its_gradient_reaches_the_student(
    modules: dict[str, ModuleType], networks: dict[str, torch.nn.Module], teacher: str, student: str
) -> None:
    losses, generator = modules["cifar100_losses"], torch.Generator().manual_seed(0)
    x, index = torch.randn(8, 3, 32, 32, generator=generator), torch.arange(8)
    labels = torch.randint(100, (50,), generator=generator)
    t, weights = networks[teacher](x), list(networks[student].parameters())
    faults = []
    for name, make in losses.LOSSES.items():
        s = networks[student](x)
        ready = make(losses.Pair(s, t, networks[teacher], labels, 8))
        loss = ready.labels * torch.nn.functional.cross_entropy(s.logits, labels[:8])
        loss = loss + ready.weight * ready.term(s, t, labels[:8], index)
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        reached = sum(float(g.detach().square().sum()) > 0 for g in gradients if g is not None)
        if not torch.isfinite(loss.detach()) or reached < len(weights) // 2:
            faults.append(name)
        if name != "labels" and not ready.weight * float(ready.term(s, t, labels[:8], index).detach()) > 0:
            faults.append(f"{name} adds nothing")
    assert faults == []


@pytest.mark.parametrize(("pair", "losses"), [(PAIRS[0], "labels,simkd"), (PAIRS[1], "dkd")])
def test_the_example_runs_whole_and_keeps_its_teacher(tmp_path: Path, pair: tuple[str, str], losses: str) -> None:
    command = [sys.executable, str(EXAMPLES / "cifar100.py"), "--random-data", "16", "--batch-size", "8"]
    command += ["--teacher", pair[0], "--student", pair[1], "--losses", losses, "--folder", str(tmp_path)]
    command += ["--epochs", "1", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[-1 - len(losses.split(",")) :]]
    assert [row[0] for row in rows] == ["teacher", *losses.split(",")]
    assert all(0 <= float(row[1]) <= 100 for row in rows)
    (kept,) = tmp_path.iterdir()
    assert kept.name == f"{pair[0]}-random-1.pt"


def test_two_runs_are_the_same(
    modules: dict[str, ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--random-data", "16", "--batch-size", "8", "--epochs", "2", "--losses", "kd", "--device", "cpu"]
    arguments += ["--teacher", "resnet8x4"]
    said = []
    for folder in ("a", "b"):
        modules["cifar100"].main([*arguments, "--folder", str(tmp_path / folder)])
        said.append([line.split()[:2] for line in capsys.readouterr().out.splitlines()])
    assert said[0] == said[1]
    one, two = (torch.load(next((tmp_path / folder).iterdir()), weights_only=True) for folder in ("a", "b"))
    torch.testing.assert_close(one, two, rtol=0, atol=0)


def test_crops_are_what_torchvisions_would_be(modules: dict[str, ModuleType]) -> None:
    data = modules["cifar100_data"]
    x = torch.randint(256, (64, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    found = data.crops(x, torch.Generator().manual_seed(1))
    drawn = torch.Generator().manual_seed(1)
    places, mirrored = torch.randint(9, (2, 64), generator=drawn), torch.rand(64, generator=drawn) < 0.5
    for i in range(64):
        top, left = places[:, i].tolist()
        cut = torch.nn.functional.pad(x[i], (4, 4, 4, 4))[:, top : top + 32, left : left + 32]
        expected = data.standardised(cut.flip(-1) if mirrored[i] else cut)
        torch.testing.assert_close(found[i], expected, rtol=0, atol=0)


def test_an_unknown_loss_is_told_with_those_there_are(
    modules: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(modules["cifar100"], capsys, "--losses", "kd,hinton", "--random-data", 9)
    assert re.search(r"there is no \['hinton'\]: losses labels, kd, .*crd; networks resnet32x4", said)


def test_without_data_it_says_where_to_put_them(
    modules: dict[str, ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(modules["cifar100"], capsys, "--data", tmp_path, "--folder", tmp_path / "out")
    assert "Dataset not found" in said
