"""Every loss of lessons 01 to 05 by name, made ready for two networks of ``cifar100_networks.py``.

Weights are the published ones for CIFAR-100, turned into our normalisation where theirs differs (a comment says how);
where we know none, 1. A term times its weight is added to cross-entropy times ``labels``.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch.nn.functional as F
from cifar100_networks import Network, Seen
from torch import Tensor, nn

from kdref import attention, feature, relation, response
from kdref.soft_targets import distillation_loss

Loss = Callable[[Seen, Seen, Tensor, Tensor], Tensor]  # of student, teacher, labels and the examples' numbers


class Pair(NamedTuple):
    """What a loss must know to build its modules."""

    student: Seen  # of any batch: for the shapes
    teacher: Seen
    network: Network  # the teacher
    labels: Tensor  # of the whole training set
    batch_size: int


class Ready(NamedTuple):
    """A loss for one pair."""

    term: Loss
    weight: float = 1.0
    modules: Iterable[nn.Module] = ()  # trained beside the student, and thrown away
    labels: float = 1.0  # weight of the cross-entropy
    warm_up: int = 0  # epochs in which the weight grows from 0
    head: nn.Module | None = None  # replaces the student's classifier


def on_logits(
    loss: Callable[..., Tensor], weight: float = 1.0, *, labels: float = 1.0, **settings: float
) -> Callable[[Pair], Ready]:
    """A loss of student's and teacher's logits."""
    return lambda pair: Ready(lambda s, t, y, i: loss(s.logits, t.logits, **settings), weight, labels=labels)


def with_labels(
    loss: Callable[..., Tensor], *, labels: float, warm_up: int = 0, **settings: float
) -> Callable[[Pair], Ready]:
    """A loss that looks at the labels too."""
    return lambda pair: Ready(lambda s, t, y, i: loss(s.logits, t.logits, y, **settings), 1.0, (), labels, warm_up)


def on_pooled(loss: Callable[..., Tensor], weight: float) -> Callable[[Pair], Ready]:
    """A loss on the relations of a batch's examples."""
    return lambda pair: Ready(lambda s, t, y, i: loss(s.pooled, t.pooled), weight)


def regressor(student: Tensor, teacher: Tensor) -> nn.Module:
    return feature.HintRegressor(student.shape[1], teacher.shape[1])


def learnable(pair: Pair) -> Ready:
    temperature = response.LearnableTemperature(initial=4.0)

    def term(s: Seen, t: Seen, y: Tensor, i: Tensor) -> Tensor:
        return distillation_loss(s.logits, t.logits, y, soft_weight=0.9, temperature=temperature())

    return Ready(term, modules=(temperature,), labels=0.0)


def hint(pair: Pair) -> Ready:
    layer = regressor(pair.student.maps[1], pair.teacher.maps[1])
    return Ready(lambda s, t, y, i: feature.hint_loss(layer(s.maps[1]), t.maps[1]), 100.0, (layer,))


def variational(pair: Pair) -> Ready:
    layers = [
        feature.VariationalRegressor(a.shape[1], b.shape[1])
        for a, b in zip(pair.student.maps, pair.teacher.maps, strict=True)
    ]
    return Ready(
        lambda s, t, y, i: sum(r.loss(a, b) for r, a, b in zip(layers, s.maps, t.maps, strict=True)), 1.0, layers
    )


def overhaul(pair: Pair) -> Ready:
    layer = regressor(pair.student.before, pair.teacher.before)
    norm = [m for m in pair.network.stages[pair.network.shown[-1]].modules() if isinstance(m, nn.BatchNorm2d)]
    norm = norm[1] if len(norm) > 2 else norm[-1]  # a block's second one, not its shortcut's
    margin = feature.negative_margin(norm)
    weight = pair.teacher.before[0].numel() / 1000  # theirs is a sum over elements, divided by 1000; ours a mean
    return Ready(lambda s, t, y, i: feature.overhaul_loss(layer(s.before), t.before, margin), weight, (layer,))


def boundaries(pair: Pair) -> Ready:
    layer = regressor(pair.student.before, pair.teacher.before)
    return Ready(lambda s, t, y, i: feature.activation_boundary_loss(layer(s.before), t.before), 1.0, (layer,))


def factors(pair: Pair) -> Ready:
    """The paraphraser learns beside the student, from the first epoch; the authors train it before."""
    count = pair.teacher.maps[-1].shape[1] // 2
    paraphraser, translator = (
        feature.Paraphraser(pair.teacher.maps[-1].shape[1], count),
        feature.Translator(pair.student.maps[-1].shape[1], count),
    )

    def term(s: Seen, t: Seen, y: Tensor, i: Tensor) -> Tensor:
        factor = feature.factor_transfer_loss(translator(s.maps[-1]), paraphraser(t.maps[-1]))
        return 200 * factor + paraphraser.reconstruction_loss(t.maps[-1])

    return Ready(term, 1.0, (paraphraser, translator))


def flow(pair: Pair) -> Ready:
    layers = [regressor(a, b) for a, b in zip(pair.student.maps, pair.teacher.maps, strict=True)]

    def term(s: Seen, t: Seen, y: Tensor, i: Tensor) -> Tensor:
        own = [layer(a) for layer, a in zip(layers, s.maps, strict=True)]
        return sum(
            feature.fsp_loss(*((F.adaptive_avg_pool2d(m[k], m[k + 1].shape[2:]), m[k + 1]) for m in (own, t.maps)))
            for k in (0, 1)
        )

    return Ready(term, 50.0, layers)


def review(pair: Pair) -> Ready:
    fusion = feature.ReviewFusion([m.shape[1] for m in pair.student.maps], [m.shape[1] for m in pair.teacher.maps])

    def term(s: Seen, t: Seen, y: Tensor, i: Tensor) -> Tensor:
        return sum(feature.hierarchical_context_loss(a, b) for a, b in zip(fusion(s.maps), t.maps, strict=True))

    return Ready(term, 5.0, (fusion,), warm_up=20)


def reused(pair: Pair) -> Ready:
    wide, inside = pair.teacher.pooled.shape[1], pair.teacher.pooled.shape[1] // 2
    projector = nn.Sequential(nn.Linear(pair.student.pooled.shape[1], inside), nn.ReLU(), nn.Linear(inside, wide))
    head = feature.ReusedClassifier(projector, pair.network.classifier)
    return Ready(lambda s, t, y, i: feature.hint_loss(head.project(s.pooled), t.pooled), 1.0, (), labels=0.0, head=head)


def channels(pair: Pair) -> Ready:
    layer = regressor(pair.student.maps[-1], pair.teacher.maps[-1])
    return Ready(lambda s, t, y, i: feature.channel_wise_loss(layer(s.maps[-1]), t.maps[-1]), 1.0, (layer,))


def generation(pair: Pair) -> Ready:
    module = feature.MaskedGeneration(pair.student.maps[-1].shape[1], pair.teacher.maps[-1].shape[1])
    weight = 7e-5 * pair.teacher.maps[-1][0].numel()  # theirs is a sum over elements
    return Ready(lambda s, t, y, i: feature.hint_loss(module(s.maps[-1]), t.maps[-1]), weight, (module,))


def over_maps(loss: Callable[..., Tensor], weight: float) -> Callable[[Pair], Ready]:
    return lambda pair: Ready(lambda s, t, y, i: sum(loss(a, b) for a, b in zip(s.maps, t.maps, strict=True)), weight)


def distances_and_angles(pair: Pair) -> Ready:
    return Ready(
        lambda s, t, y, i: (
            25 * relation.rkd_distance_loss(s.pooled, t.pooled) + 50 * relation.rkd_angle_loss(s.pooled, t.pooled)
        )
    )


def contrastive(pair: Pair) -> Ready:
    head = nn.Linear(pair.student.pooled.shape[1], pair.teacher.pooled.shape[1])
    return Ready(lambda s, t, y, i: relation.info_nce_loss(head(s.pooled), t.pooled), 1.0, (head,))


def remembered(pair: Pair) -> Ready:
    sizes = pair.student.pooled.shape[1], pair.teacher.pooled.shape[1]
    memory = relation.ContrastiveMemory(*sizes, num_examples=len(pair.labels), labels=pair.labels)

    def term(s: Seen, t: Seen, y: Tensor, i: Tensor) -> Tensor:
        own, theirs = memory(s.pooled, t.pooled)
        loss = relation.crd_loss(own, theirs, i, memory.draw(16384), memory)
        memory.update(own, theirs, i)
        return loss

    return Ready(term, 0.8, (memory,))


LOSSES: dict[str, Callable[[Pair], Ready]] = {
    "labels": lambda pair: Ready(lambda s, t, y, i: s.logits.new_zeros(()), 0.0),
    "kd": with_labels(distillation_loss, labels=0.0, soft_weight=0.9, temperature=4.0),
    "logit_matching": on_logits(response.logit_matching_loss),
    "hard_labels": on_logits(response.hard_label_loss),
    "dkd": with_labels(response.dkd_loss, labels=1.0, warm_up=20, nontarget_weight=8.0, temperature=4.0),
    "nkd": with_labels(response.nkd_loss, labels=1.0, soft_weight=1.5, temperature=1.0),
    "dist": on_logits(response.dist_loss, inter_weight=2.0, intra_weight=2.0, temperature=4.0),
    "standardized": on_logits(response.standardized_kd_loss, 9.0, labels=0.1, temperature=2.0),
    "learnable_temperature": learnable,
    "hint": hint,
    "vid": variational,
    "ofd": overhaul,
    "ab": boundaries,
    "ft": factors,
    "fsp": flow,
    "nst": over_maps(feature.neuron_selectivity_loss, 50.0),
    "review": review,
    "simkd": reused,
    "cwd": channels,
    "mgd": generation,
    "at": over_maps(attention.attention_transfer_loss, 1000.0),
    "rkd": distances_and_angles,
    "sp": on_pooled(relation.similarity_preserving_loss, 3000.0),
    "cc": on_pooled(relation.correlation_congruence_loss, 1.0),
    "pkt": lambda pair: on_pooled(relation.probabilistic_transfer_loss, 30000 / pair.batch_size)(
        pair
    ),  # theirs: B times less
    "infonce": contrastive,
    "crd": remembered,
}
