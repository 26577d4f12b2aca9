"""CAIE's public code, three pruning steps: the same scores, importance and channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_reid.networks import ChannelPlan, materialize
from lightning_reid.networks.channels.groups import find_channel_groups
from lightning_reid.networks.channels.plan import ChannelMasks
from lightning_reid.pruning import batch_norm_score, constraint_aware_importance, loss_impact
from lightning_reid.pruning.channel_selection import least_important
from lightning_reid.pruning.loss_impact import RunningImpact
from lightning_reid.pruning.resource_impact import effective_resource_impact, pruning_objective, resource_impact

GOLDEN = np.load(Path(__file__).parents[1] / "goldens" / "caie_vgg.npz")
SHAPE = (1, 3, 32, 32)


class VGG(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers, width = [], 3
        for size in (6, 8, "M", 8, "M", 8, "M", 10, "M", 10, "M"):
            if size == "M":
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(width, size, 3, padding=1), nn.BatchNorm2d(size), nn.ReLU()]
                width = size
        self.features, self.classifier = nn.Sequential(*layers), nn.Linear(10, 10)

    def forward(self, images):
        return self.classifier(self.features(images).flatten(1))


def costs_as_the_public_code_counts(network: nn.Module) -> dict[str, float]:
    """Convolutions with bias, 4 an element of a BatchNorm, 2 C - 1 an output of the linear layer, 2 a channel of the last pooling."""
    flops = 0

    def count(module, inputs, output):
        nonlocal flops
        if isinstance(module, nn.Conv2d):
            flops += output.numel() * (module.weight[0].numel() + 1)
        elif isinstance(module, nn.BatchNorm2d):
            flops += 4 * output.numel()
        elif isinstance(module, nn.Linear):
            flops += (2 * module.in_features - 1) * module.out_features + 2 * module.in_features

    hooks = [module.register_forward_hook(count) for module in network.modules()]
    with torch.no_grad():
        network.eval()(torch.zeros(SHAPE))
    for hook in hooks:
        hook.remove()
    return {"flops": float(flops), "params": float(sum(parameter.numel() for parameter in network.parameters()))}


def test_three_steps_have_the_scores_the_importance_and_the_channels_of_the_public_code():
    network = VGG()
    network.load_state_dict(
        {name.removeprefix("sd_init/"): torch.tensor(GOLDEN[name]) for name in GOLDEN.files if "sd_init" in name}, strict=False
    )
    images, labels = torch.tensor(GOLDEN["batches_x"]).float(), torch.tensor(GOLDEN["batches_y"])
    lr, momentum, weight_decay, batches_per_step, filters_per_step, _, ratio = GOLDEN["hyper"]
    groups = {str(group.gates[0].name): group for group in find_channel_groups(network, SHAPE)}
    numbers = dict(zip(GOLDEN["bn_names"].tolist(), GOLDEN["bn_group"].tolist(), strict=True))
    assert list(groups) == list(numbers)
    masks, base = ChannelMasks(network, list(groups.values())), costs_as_the_public_code_counts(network)
    assert list(base.values()) == GOLDEN["base_res"][:2].tolist()
    limits = {name: share * base[name] for name, share in zip(base, GOLDEN["constraint"], strict=True)}
    left, running = base, RunningImpact()
    for step in range(int(GOLDEN["n_steps"])):
        optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
        running.restart()
        network.train()
        for batch in range(int(batches_per_step)):
            optimizer.zero_grad()
            F.cross_entropy(network(images[batch]), labels[batch]).backward()
            norms = {name: network.get_submodule(name) for name in groups}
            scores = {name: batch_norm_score(norm.weight, norm.bias, norm.weight.grad, norm.bias.grad) for name, norm in norms.items()}
            if step == batch == 0:
                for name, score in scores.items():
                    np.testing.assert_allclose(score, GOLDEN[f"first_batch/score/{name}"], rtol=2e-5, atol=1e-7)
            running.update({name: loss_impact([score]) for name, score in scores.items()})
            optimizer.step()
        frees = {}
        for name, group in groups.items():
            one_less = dict(masks.keep) | {group.name: masks.keep[group.name].clone()}
            one_less[group.name][int(masks.keep[group.name].nonzero()[0])] = False
            without = costs_as_the_public_code_counts(materialize(network, ChannelPlan(SHAPE, one_less)))
            frees[name] = {resource: resource_impact(left[resource], without[resource]) for resource in left}
        objective = pruning_objective(left, limits)
        np.testing.assert_allclose(list(objective.values()), GOLDEN[f"step{step}/objective"], rtol=1e-9, atol=1e-12)
        importance = constraint_aware_importance(running.values, frees, objective)
        for name, number in numbers.items():
            assert frees[name]["flops"] == pytest.approx(float(GOLDEN[f"step{step}/res_flops/g{number}"]), rel=1e-9)
            assert frees[name]["params"] == pytest.approx(float(GOLDEN[f"step{step}/res_param/g{number}"]), rel=1e-9)
            effective = effective_resource_impact(list(frees[name].values()), list(objective.values()))
            assert effective == pytest.approx(float(GOLDEN[f"step{step}/eff/g{number}"]), rel=1e-9)
            for ours, theirs in ((running.values, "loss_impact_exp"), (importance, "importance")):
                expected = torch.tensor(GOLDEN[f"step{step}/{theirs}/g{number}"])
                alive = masks.keep[groups[name].name]
                torch.testing.assert_close(ours[name][alive], expected[alive], rtol=1e-4, atol=1e-7)
        by_gate = {name: masks.keep[group.name] for name, group in groups.items()}
        chosen = least_important(importance, by_gate, int(filters_per_step), min_channel_ratio=float(ratio))
        masks.set({groups[name].name: keep for name, keep in chosen.items()})
        for name, number in numbers.items():
            assert chosen[name].tolist() == GOLDEN[f"step{step}/mask_after/g{number}"].astype(bool).tolist()
        left = costs_as_the_public_code_counts(materialize(network, ChannelPlan(SHAPE, masks.keep)))
        assert list(left.values()) == GOLDEN["res_per_step"][step].tolist()
