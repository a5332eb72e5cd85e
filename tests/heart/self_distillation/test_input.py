"""Networks that teach themselves: what people hand to them, besides tensors that fit."""

import math
from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from kdref import self_distillation
from kdref.self_distillation import (
    DinoCenter,
    EmaTeacher,
    confidence_weighted_loss,
    deep_supervision_loss,
    dino_loss,
    gated_ensemble_logits,
    mutual_learning_loss,
    output_information,
    permuted_dark_knowledge,
    progressive_targets,
    progressive_weight,
    ridge_self_distillation,
)
from kdref.soft_targets import soft_target_loss
from tests import checks, inputs
from tests.inputs import Call

CENTER = DinoCenter(inputs.CLASSES, momentum=0.0)
SOFT = [
    Call(self_distillation, "mutual_learning_loss", "zz"),
    Call(self_distillation, "mutual_learning_loss", "zk"),
    Call(self_distillation, "class_consistency_loss", "zz"),
    Call(self_distillation, "deep_supervision_loss", "kzy"),
]
DINO = Call(self_distillation, "dino_loss", "zz", {"center": CENTER, "student_temperature": 1.0})
INFORMATION = Call(self_distillation, "output_information", "z")
GATED = Call(self_distillation, "gated_ensemble_logits", "kg")
CONFIDENCE = Call(self_distillation, "confidence_weighted_loss", "zzy")
PROGRESSIVE = Call(self_distillation, "progressive_targets", "zy", {"weight": 0.4})
PERMUTED = Call(self_distillation, "permuted_dark_knowledge", "z")
CALLS = [*SOFT, DINO, INFORMATION, GATED, CONFIDENCE, PROGRESSIVE]
OWN, PEERS, LABELS = checks.randn(5, 4, seed=1), checks.randn(3, 5, 4, seed=2), checks.labels_for(5, 4)


@pytest.mark.parametrize("check", [*inputs.ALWAYS, inputs.check_missing_class], ids=lambda check: check.__name__)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call}-{call.tensors}")
def test_every_function_passes(check, call: Call) -> None:
    if call is not GATED or check is not inputs.check_one_class:  # a gate's one branch is right
        check(call)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call}-{call.tensors}")
def test_an_empty_batch_is_named(call: Call) -> None:
    inputs.check_empty(call, refused=call not in (GATED, PROGRESSIVE))


@pytest.mark.parametrize("call", SOFT, ids=lambda call: f"{call}-{call.tensors}")
def test_temperatures_per_example_and_large_ones(call: Call) -> None:
    inputs.check_temperature_per_example(call)
    inputs.check_large_temperature(call)


@pytest.mark.parametrize("call", [SOFT[3], CONFIDENCE, PROGRESSIVE], ids=str)
def test_labels_out_of_range_are_named(call: Call) -> None:
    inputs.check_labels(call)


# Peers and branches


def test_known_values_of_a_peer_that_lacks_a_class() -> None:
    fair, peer = torch.zeros(1, 3), torch.tensor([[0.0, 0.0, -math.inf]])
    # (½, ½, 0) against thirds: log(3/2); beside a peer who agrees, half
    assert mutual_learning_loss(fair, peer).item() == pytest.approx(math.log(1.5), abs=1e-6)
    assert mutual_learning_loss(fair, torch.stack([peer, fair])).item() == pytest.approx(math.log(1.5) / 2, abs=1e-6)
    assert mutual_learning_loss(peer, fair).item() == math.inf
    # the last classifier lacks a class: log 2 of its own labels; the branch: 0.7 log 3 + 0.3 log(3/2)
    loss = deep_supervision_loss(fair[None], peer, torch.tensor([0]), temperature=1.0)
    assert loss.item() == pytest.approx(math.log(2) + 0.7 * math.log(3) + 0.3 * math.log(1.5), abs=1e-6)


def test_a_closed_gate_lets_no_missing_class_through() -> None:
    branches = torch.stack([OWN, OWN.index_fill(1, torch.tensor([2]), -math.inf)]).requires_grad_()
    closed = torch.tensor([[0.0, -math.inf]], dtype=torch.float64).expand(5, 2)
    assert_close(gated_ensemble_logits(branches, closed), OWN)
    gate = torch.zeros(5, 2, dtype=torch.float64, requires_grad=True)
    ensemble = gated_ensemble_logits(branches, gate)
    assert ensemble[:, 2].tolist() == [-math.inf] * 5
    F.cross_entropy(ensemble, torch.tensor([0, 1, 3, 0, 1])).backward()
    for leaf in (gate, branches):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()


def test_deep_supervision_takes_every_kind_of_labels() -> None:
    soft = F.one_hot(LABELS, 4).double()
    assert_close(deep_supervision_loss(PEERS, OWN, soft), deep_supervision_loss(PEERS, OWN, LABELS))
    missing = LABELS.masked_fill(torch.arange(5) == 3, -100)
    known = missing >= 0
    hard = sum(F.cross_entropy(z[known], LABELS[known]) for z in PEERS)
    taught = 0.7 * hard + 0.3 * sum(soft_target_loss(z, OWN, temperature=3.0) for z in PEERS)
    expected = F.cross_entropy(OWN[known], LABELS[known]) + taught
    assert_close(deep_supervision_loss(PEERS, OWN, missing), expected)
    nobody = deep_supervision_loss(PEERS, OWN, torch.full((5,), -100))
    assert_close(nobody, 0.3 * sum(soft_target_loss(z, OWN, temperature=3.0) for z in PEERS))


def test_stacks_are_asked_for() -> None:
    with pytest.raises(TypeError, match=r"branch_logits must be a tensor, got list: torch\.stack makes one of several"):
        gated_ensemble_logits(list(PEERS), torch.zeros(5, 3))
    for branches, gate in ((PEERS.long(), torch.zeros(5, 3)), (PEERS, torch.zeros(5, 3).long())):
        with pytest.raises(TypeError, match=r"_logits must be floating point, got torch\.int64"):
            gated_ensemble_logits(branches, gate)
    with pytest.raises(ValueError, match=r"one class can only be right, got shape \(5, 1\)"):
        gated_ensemble_logits(PEERS[..., :1], torch.zeros(5, 3))


# Earlier selves


def test_confidence_without_a_label_is_refused() -> None:
    for labels in (LABELS.masked_fill(LABELS[0] == LABELS, -100), F.one_hot(LABELS, 4).double()):
        with pytest.raises((TypeError, ValueError), match=r"labels must be"):
            confidence_weighted_loss(OWN, PEERS[0], labels)
        with pytest.raises((TypeError, ValueError), match=r"labels must be"):
            progressive_targets(OWN, labels, weight=0.5)


def test_confidence_stays_in_float32_under_autocast() -> None:
    student, teacher = OWN.float(), PEERS[0].float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = confidence_weighted_loss(student, teacher, LABELS)
    assert loss.dtype == torch.float32
    assert_close(loss, confidence_weighted_loss(student, teacher, LABELS), rtol=0, atol=0)


def test_permuted_knowledge_takes_the_same_inputs() -> None:
    for check in (*inputs.ALWAYS[1:9],):
        check(PERMUTED)
    maps = checks.randn(20, 4, 3, 3, seed=1)
    for class_dim in (1, -3):
        permuted = permuted_dark_knowledge(maps, class_dim=class_dim)
        assert_close(permuted.argmax(1), maps.argmax(1))
        assert_close(permuted.sort(1).values, maps.sort(1).values, rtol=0, atol=0)
    assert (permuted != maps).any(dim=1).double().mean() > 0.7
    rows = torch.tensor([[5.0, -math.inf, 1.0]]).expand(50, 3)
    assert_close(permuted_dark_knowledge(rows).sort(-1).values, rows.sort(-1).values)


def test_the_schedule_refuses_text() -> None:
    for name in ("epoch", "epochs", "final_weight"):
        with pytest.raises(TypeError, match=f"{name} must be a number, got '3'"):
            progressive_weight(**{"epoch": 1, "epochs": 4, name: "3"})


# Ridge


def exact_ridge(gram: list[list[int]], targets: list[int], penalty: Fraction) -> list[float]:
    """G (G + cI)⁻¹ y in fractions, by elimination."""
    n = len(gram)
    rows = [[Fraction(g) + (penalty if i == j else 0) for j, g in enumerate(row)] for i, row in enumerate(gram)]
    right = [Fraction(y) for y in targets]
    for i in range(n):
        for j in range(i + 1, n):
            factor = rows[j][i] / rows[i][i]
            rows[j] = [a - factor * b for a, b in zip(rows[j], rows[i], strict=True)]
            right[j] -= factor * right[i]
    solution: list[Fraction] = []
    for i in reversed(range(n)):
        known = sum(a * x for a, x in zip(rows[i][i + 1 :], solution, strict=True))
        solution.insert(0, (right[i] - known) / rows[i][i])
    return [float(sum(g * x for g, x in zip(row, solution, strict=True))) for row in gram]


def test_a_huge_gram_matrix_beside_a_small_penalty_is_solved_in_float32_too() -> None:
    # a linear model of features (1, x) with x near 1000: eigenvalues of 4 million and of less than one
    x = [1000, 1001, 1003, 1006]
    gram, targets = [[1 + a * b for b in x] for a in x], [3000, -4000, 1000, 2000]
    expected = exact_ridge(gram, targets, Fraction(1, 8))
    for dtype in (torch.float32, torch.float64):
        fitted = ridge_self_distillation(
            torch.tensor(gram, dtype=dtype), torch.tensor(targets, dtype=dtype)[:, None], penalty=0.125, rounds=1
        )
        assert fitted.dtype == dtype
        assert fitted[0, :, 0].tolist() == pytest.approx(expected, rel=1e-5)


def test_what_ridge_refuses_is_named() -> None:
    gram, targets = torch.eye(3), torch.ones(3, 1)
    for value in (None, gram.tolist(), gram.numpy()):
        with pytest.raises(TypeError, match=f"gram must be a tensor, got {type(value).__name__}"):
            ridge_self_distillation(value, targets, penalty=1.0, rounds=1)
        with pytest.raises(TypeError, match=f"targets must be a tensor, got {type(value).__name__}"):
            ridge_self_distillation(gram, value, penalty=1.0, rounds=1)
    for pair in ((gram.long(), targets), (gram, targets.long())):
        with pytest.raises(TypeError, match="must be floating point"):
            ridge_self_distillation(*pair, penalty=1.0, rounds=1)
    for name in ("penalty", "rounds", "label_weight"):
        with pytest.raises(TypeError, match=f"{name} must be a number, got '1'"):
            ridge_self_distillation(gram, targets, **{"penalty": 1.0, "rounds": 1, name: "1"})
    for broken in (gram * math.nan, gram):
        assert ridge_self_distillation(broken, targets * math.nan, penalty=1.0, rounds=2).isnan().any()


# A moving average, and no labels


class Named(nn.Module):
    """Takes its inputs by name and gives its outputs by name, as Hugging Face's models do."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, *, pixel_values: Tensor, scale: float = 1.0) -> SimpleNamespace:
        return SimpleNamespace(logits=scale * self.linear(pixel_values))


def test_the_averaged_teacher_takes_inputs_by_name() -> None:
    student = Named()
    teacher, x = EmaTeacher(student, decay=0.9), torch.ones(1, 3)
    assert_close(teacher(pixel_values=x, scale=2.0).logits, student(pixel_values=x, scale=2.0).logits)
    assert not teacher(pixel_values=x).logits.requires_grad


def test_the_averaged_teacher_follows_modules_only() -> None:
    student = nn.Linear(3, 2)
    for value in (None, student.state_dict(), list(student.parameters())):
        with pytest.raises(TypeError, match=f"student must be a module, got {type(value).__name__}"):
            EmaTeacher(value, decay=0.9)
        with pytest.raises(TypeError, match=f"student must be a module, got {type(value).__name__}"):
            EmaTeacher(student, decay=0.9).update(value)
    with pytest.raises(TypeError, match=r"decay must be a number, got '0\.9'"):
        EmaTeacher(student, decay="0.9")


def test_a_student_of_nan_shows_in_its_average() -> None:
    student = nn.Linear(3, 2)
    teacher = EmaTeacher(student, decay=0.9)
    student.weight.data[0, 0] = math.nan
    teacher.update(student)
    assert teacher.module.weight[0, 0].isnan()


def test_a_center_of_images_is_that_of_their_places() -> None:
    maps = DINO.maps()[1]
    centers = [DinoCenter(inputs.CLASSES, momentum=0.5).double() for _ in range(2)]
    centers[0].update(maps, class_dim=1)
    centers[1].update(DINO.rows()[1])
    assert_close(centers[0].value, centers[1].value)
    assert_close(centers[0](maps, class_dim=1), maps - centers[1].value[:, None, None])
    with pytest.raises(ValueError, match=r"the center is of 4 outputs, got \(2, 4, 2, 3\)"):
        centers[0].update(maps)


def test_what_the_center_refuses_is_named() -> None:
    for center in (None, torch.zeros(4), nn.Identity()):
        with pytest.raises(
            TypeError, match=rf"center must be a DinoCenter, got {type(center).__name__}: DinoCenter\(4\)"
        ):
            dino_loss(OWN, PEERS[0], center)
    with pytest.raises(TypeError, match="num_outputs must be a number, got '4'"):
        DinoCenter("4")
    with pytest.raises(TypeError, match="momentum must be a number, got None"):
        DinoCenter(4, momentum=None)
    with pytest.raises(TypeError, match="logits must be a tensor, got list"):
        DinoCenter(4).update(OWN.tolist())


def test_rounding_after_a_collapse_does_not_make_information_negative() -> None:
    rows = checks.randn(1, 7, seed=3, scale=3.0, dtype=torch.float32)
    told = [output_information((rows + shift).expand(48, 7)) for shift in torch.arange(0, 20, 0.1)]
    assert min(told) >= 0
    assert max(told) < 1e-6


def test_known_value_of_information_without_an_output() -> None:
    # one example sure of the first output, one of the second, both without the third: log 2
    rows = torch.tensor([[0.0, -math.inf, -math.inf], [-math.inf, 0.0, -math.inf]])
    assert output_information(rows).item() == pytest.approx(math.log(2), abs=1e-6)


def test_dense_losses_compile_to_one_graph() -> None:
    own, peers = SOFT[1].maps()
    labels = checks.labels_for(inputs.EXAMPLES, inputs.CLASSES).reshape(inputs.IMAGES)

    def all_of_them(z: Tensor, k: Tensor, y: Tensor) -> Tensor:
        ensemble = gated_ensemble_logits(k, torch.zeros(2, 3, dtype=z.dtype), class_dim=1)
        loss = mutual_learning_loss(z, k, class_dim=1) + deep_supervision_loss(z[None], ensemble, y, class_dim=1)
        return loss + confidence_weighted_loss(z, ensemble, y, class_dim=1) + output_information(z, class_dim=1)

    checks.check_compiles(all_of_them, own, peers, labels)
