"""The reused classifier, checked against SimKD (Chen et al. 2022) and against what others got wrong."""

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from kdref.feature import ReusedClassifier
from tests import checks

FEATURES = checks.randn(4, 6, 3, 5, seed=1, dtype=torch.float32)


def classifier() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 3))


def test_equal_features_give_the_teachers_predictions() -> None:
    teacher = classifier().eval()
    head = ReusedClassifier(nn.Identity(), teacher)
    assert_close(head(FEATURES), teacher(FEATURES.mean(dim=(2, 3))))
    assert_close(head(FEATURES.flatten(2)), teacher(FEATURES.mean(dim=(2, 3))))
    assert_close(head(FEATURES[:, :, 0, 0]), teacher(FEATURES[:, :, 0, 0]))
    assert_close(head.classify(FEATURES), head(FEATURES))


def test_prediction_matches_the_definition() -> None:
    projector, teacher = nn.Conv2d(6, 6, 1), nn.Linear(6, 3)
    logits = ReusedClassifier(projector, teacher)(FEATURES)
    weight, bias, places = projector.weight[..., 0, 0].tolist(), projector.bias.tolist(), 3 * 5
    for b in range(4):
        means = FEATURES[b].flatten(1).sum(dim=1).div(places).tolist()  # averaging and projecting may be exchanged
        projected = [
            sum(w * x for w, x in zip(row, means, strict=True)) + c for row, c in zip(weight, bias, strict=True)
        ]
        expected = [
            sum(w * x for w, x in zip(row, projected, strict=True)) + c
            for row, c in zip(teacher.weight.tolist(), teacher.bias.tolist(), strict=True)
        ]
        assert_close(logits[b].detach(), torch.tensor(expected))


def test_known_value() -> None:
    # features average to (2, 3); doubled (4, 6); the classifier takes their difference and their sum
    projector, teacher = nn.Conv1d(2, 2, 1, bias=False), nn.Linear(2, 2, bias=False)
    projector.weight.data, teacher.weight.data = 2 * torch.eye(2)[..., None], torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    logits = ReusedClassifier(projector, teacher)(torch.tensor([[[1.0, 3.0], [2.0, 4.0]]]))
    assert_close(logits, torch.tensor([[-2.0, 10.0]]))


def test_the_classifier_is_a_frozen_copy_and_the_teacher_is_left_alone() -> None:
    teacher = classifier().train()
    head = ReusedClassifier(nn.Conv2d(6, 6, 1), teacher)
    assert all(p.requires_grad for p in teacher.parameters())
    assert teacher.training
    head(FEATURES).square().sum().backward()
    assert all(p.grad is None for p in [*teacher.parameters(), *head.classifier.parameters()])
    assert all(p.grad is not None for p in head.projector.parameters())
    before = head(FEATURES)
    with torch.no_grad():
        teacher[1].weight += 1.0
    assert_close(head(FEATURES), before)


def test_training_the_student_never_switches_the_classifiers_dropout_on() -> None:
    head = ReusedClassifier(nn.Sequential(nn.Identity(), nn.Dropout(0.5)), classifier())
    student = nn.Sequential(nn.Identity(), head).train()
    assert head.projector[1].training
    assert not any(module.training for module in head.classifier.modules())
    projected = head.project(FEATURES)
    assert_close(head.classify(projected), head.classify(projected))
    student.eval()
    assert not head.projector[1].training


def test_projector_and_classifier_count_as_the_students_and_are_saved_with_it() -> None:
    projector, teacher = nn.Conv2d(6, 6, 1), nn.Linear(6, 3)
    head = ReusedClassifier(projector, teacher)
    assert sum(p.numel() for p in head.parameters()) == (6 * 6 + 6) + (6 * 3 + 3)
    fresh = ReusedClassifier(nn.Conv2d(6, 6, 1), nn.Linear(6, 3))
    fresh.load_state_dict(head.state_dict())
    assert_close(fresh(FEATURES), head(FEATURES))


def test_batch_permutation_and_gradient() -> None:
    head = ReusedClassifier(nn.Conv2d(6, 6, 1), classifier()).double()
    checks.check_batch_permutation(lambda f: head(f), FEATURES.double(), per_example=True)
    checks.check_gradient(lambda f: head(f), FEATURES.double())


def test_half_precision_features_and_single_examples_stay_finite() -> None:
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        head = ReusedClassifier(nn.Conv2d(6, 6, 1), nn.Linear(6, 3)).to(dtype)
        for features in (FEATURES, FEATURES[:1], torch.zeros_like(FEATURES), torch.full_like(FEATURES, 1e4)):
            assert head(features.to(dtype)).isfinite().all()


def test_compiles_to_one_graph() -> None:
    head = ReusedClassifier(nn.Conv2d(6, 6, 1), classifier())
    checks.check_compiles(lambda f: head(f), FEATURES)


def test_a_tiny_student_learns_a_tiny_teacher_without_labels() -> None:
    torch.manual_seed(3)
    x = checks.randn(128, 4, seed=4, dtype=torch.float32)
    body, teacher = nn.Sequential(nn.Linear(4, 6), nn.Tanh()), nn.Linear(6, 3)
    features = body(x).detach()
    student, head = nn.Sequential(nn.Linear(4, 8), nn.Tanh()), ReusedClassifier(nn.Linear(8, 6), teacher)

    def agreement() -> float:
        predicted: Tensor = head(student(x)).argmax(dim=1)
        return (predicted == teacher(features).argmax(dim=1)).float().mean().item()

    assert agreement() < 0.8
    optimizer = torch.optim.Adam([*student.parameters(), *head.projector.parameters()], lr=0.02)
    for _ in range(300):
        loss = (head.project(student(x)) - features).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert agreement() > 0.95
