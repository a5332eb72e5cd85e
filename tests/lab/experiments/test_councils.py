"""Lesson 06: teachers are weighed on images that they were not trained on, and training is on the labels given."""

import torch
from torch import nn

from kdref.lab.data import digits
from kdref.lab.experiments._councils import fitted, weights_of


def test_training_lowers_the_error_on_the_labels_given() -> None:
    torch.manual_seed(0)
    x, net = torch.randn(60, 4), nn.Linear(4, 2)
    y = (x[:, 0] > 0).long()
    start = (net(x).argmax(-1) == y).double().mean().item()
    same = fitted(net, x, y, batch_size=20, epochs=60, seed=0)
    assert same is net
    assert (net(x).argmax(-1) == y).double().mean().item() > max(start, 0.9)


def test_trust_is_given_for_new_images_only() -> None:
    split = digits(0)
    right = {part: 9.0 * torch.eye(10)[getattr(split, f"{part}_y")] for part in ("train", "validation")}
    liar = {"train": right["train"], "validation": right["validation"].roll(1, dims=-1)}
    half = dict(right, validation=torch.cat([right["validation"][:25], liar["validation"][25:]]))
    w = weights_of("trust from 50 labels", [right, liar, half], split)
    torch.testing.assert_close(w[:, 0], torch.tensor([0.9, 0.0, 0.4]) / 1.3)
    torch.testing.assert_close(w, w[:, :1].expand(3, 1000))
    torch.testing.assert_close(weights_of("probabilities", [right, liar], split), torch.full((2, 1000), 0.5))
