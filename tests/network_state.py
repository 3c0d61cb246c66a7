"""What a pass could leave behind in a network."""

from __future__ import annotations

import torch
from torch import nn

HOOKS = [name for name in vars(nn.Module()) if "hooks" in name]


def state_of(module):
    """Everything that a pass could leave behind."""
    parts = {
        name: (part.training, [dict(getattr(part, hooks)) for hooks in HOOKS])
        for name, part in module.named_modules()
    }
    tensors = {
        name: (id(t), t.data_ptr(), t._version, t.device, t.requires_grad, t.clone())
        for name, t in [*module.named_parameters(), *module.named_buffers()]
    }
    grads = {
        name: None if p.grad is None else (id(p.grad), p.grad.data_ptr())
        for name, p in module.named_parameters()
    }
    return parts, tensors, grads


def assert_same_state(before, after):
    assert before[0] == after[0]
    assert before[2] == after[2]
    assert before[1].keys() == after[1].keys()
    for name, (*facts, values) in before[1].items():
        assert facts == list(after[1][name][:-1]), name
        assert torch.equal(values, after[1][name][-1]), name


def lived_in(network, X):
    """A network in the middle of its life: mixed modes, gradients, hooks, frozen."""
    network.train()
    out = network(X)
    out.sum().backward()
    next(network.children()).eval()
    next(network.parameters()).requires_grad_(False)
    for part in network.children():
        part.register_forward_hook(lambda module, args, output: None)
        part.register_forward_pre_hook(lambda module, args: None)
    return network
