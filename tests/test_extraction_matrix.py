"""Values against plain hooks and state before against after, over many networks.

The reference here is independent of the extraction: it hooks a copy of the network,
and pools what torch's own layers put out, whose layout is known by their kind.
"""

from __future__ import annotations

import copy
import os
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pytest
import torch
from encoders import AUDIO, IMAGES, TEXTS
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from skood import LayerFeatureTransformer

N_ROWS = 5
TOKENS = (nn.Linear, nn.LayerNorm, nn.Embedding)
MAPS = (nn.Conv1d, nn.Conv2d, nn.BatchNorm1d, nn.BatchNorm2d)


def state(network):
    """All that a pass could leave behind."""
    tensors = [*network.named_parameters(), *network.named_buffers()]
    values = {name: (id(t), t.data_ptr(), t.clone()) for name, t in tensors}
    hooks = [
        (part.training, _own(part._forward_hooks), _own(part._forward_pre_hooks))
        for part in network.modules()
    ]
    return hooks, values


def _own(hooks):
    """Hooks, but for those that transformers sets in the first forward of a network."""
    homes = {key: getattr(hook, "__module__", "") for key, hook in hooks.items()}
    return [key for key in hooks if not homes[key].startswith("transformers.")]


def assert_same_state(before, after):
    assert before[0] == after[0]
    assert before[1].keys() == after[1].keys()
    for name, (identity, place, values) in before[1].items():
        assert after[1][name][:2] == (identity, place), name
        assert torch.equal(after[1][name][2], values), name


def by_plain_hooks(network, call):
    """What torch's own layers put out in evaluation mode, of their last run."""
    network, kept = network.eval(), {}
    for name, part in network.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            continue
        if type(part).forward in [kind.forward for kind in (*TOKENS, *MAPS)]:
            part.register_forward_hook(
                lambda _, __, out, name=name: kept.update({name: out.clone()})
            )
    with torch.no_grad():
        call(network)
    return network, kept


def chosen(kept, lengths, most=12):
    """Some layers whose rows are the inputs; sequences of a length with a mask."""
    names = [
        name
        for name, out in kept.items()
        if len(out) == N_ROWS
        and out.ndim > 1
        and (lengths is None or out.ndim != 3 or out.shape[1] in lengths)
    ]
    return names[:: max(1, len(names) // most)]


def pooled(part, out, mask):
    """The mean and the maximum over positions, row by row."""
    rows = []
    for number, row in enumerate(out.double()):
        if isinstance(part, MAPS) and row.ndim > 1:
            row = row.flatten(1).T
        row = row.reshape(-1, row.shape[-1])
        if mask is not None and out.ndim == 3:
            row = row[mask[number].bool()]
        rows.append((row.mean(0), row.amax(0)))
    return [np.stack([np.asarray(pair[which]) for pair in rows]) for which in (0, 1)]


def check(network, X, preprocess, lengths=None, mask_of=None, layers=None, twin=None):
    """Compare chosen layers with those of a twin, and the network with itself."""
    twin = copy.deepcopy(network) if twin is None else twin
    reference, kept = by_plain_hooks(twin, lambda net: net(**preprocess(X)))
    names = layers or chosen(kept, lengths)
    assert names
    before = state(network)
    features = LayerFeatureTransformer(
        network, names, ["avg", "max"], preprocess=preprocess, batch_size=2
    )
    with warnings.catch_warnings():
        # of networks that rescale themselves; that they are put back is checked
        warnings.filterwarnings("ignore", "the network writes to itself")
        features.fit(X)
        assert_same_state(before, state(network))
        found = features.transform(X)
    assert_same_state(before, state(network))
    for name in names:
        out = kept[name]
        mask = None if mask_of is None or out.ndim != 3 else mask_of(out.shape[1])
        expected = pooled(reference.get_submodule(name), out, mask)
        for statistic, values in zip(("avg", "max"), expected, strict=True):
            block = found.block(name, statistic)
            np.testing.assert_allclose(block, values, atol=2e-5, err_msg=name)


def built(spec, training):
    transformers = pytest.importorskip("transformers", reason="needs skood[hf]")
    model, config, settings = spec
    torch.manual_seed(0)
    network = getattr(transformers, model)(getattr(transformers, config)(**settings))
    return network.train(training)


# Of DeBERTa in older versions of transformers, beside a newer torch.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", TEXTS)
def test_encoders_of_texts(name, training):
    torch.manual_seed(0)
    X = torch.randint(3, 20, (N_ROWS, 8))
    kept = torch.arange(8) < torch.tensor([8, 5, 1, 7, 8])[:, None]
    X = torch.where(kept, X, 0)

    def batch(rows):
        return {"input_ids": rows, "attention_mask": (rows != 0).long()}

    check(built(TEXTS[name], training), X, batch, {8}, lambda length: kept)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", IMAGES)
def test_encoders_of_images(name, training):
    torch.manual_seed(0)
    X = torch.randn(N_ROWS, 3, 32, 32)
    network = built(IMAGES[name], training)
    check(network, X, lambda rows: {"pixel_values": torch.as_tensor(rows)})


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", AUDIO)
def test_encoders_of_audio_pool_under_their_own_masks(name, training):
    torch.manual_seed(0)
    network = built(AUDIO[name], training)
    lengths = torch.tensor([1600, 1000, 700, 1600, 1300])
    mask = (torch.arange(1600) < lengths[:, None]).long()
    X = torch.randn(N_ROWS, 1600) * mask

    def batch(rows):
        return {"input_values": rows, "attention_mask": (rows != 0).long()}

    base = next(p for p in network.modules() if hasattr(p, "feature_extractor"))
    frames = {}
    for options in ({}, {"add_adapter": False}):
        try:
            sizes = base._get_feat_extract_output_lengths(lengths, **options)
        except TypeError:
            continue
        frames[int(sizes.max())] = sizes

    def mask_of(length):
        return torch.arange(length) < frames[length][:, None]

    check(network, X, batch, {*frames}, mask_of)


def test_a_mask_can_be_given_for_layers_of_another_length():
    network = built(AUDIO["HuBERT"], False)
    X = torch.randn(N_ROWS, 1600) * (torch.arange(1600) < 900)

    def batch(rows):
        return {"input_values": rows, "attention_mask": (rows != 0).long()}

    layer = "feature_extractor.conv_layers.0.conv"
    features = LayerFeatureTransformer(network, layer, preprocess=batch)
    with pytest.raises(ValueError, match=r"positions a row, .* Give mask="):
        features.fit(X)

    def mask(attention_mask, length):
        kept = (attention_mask.sum(1) - 10) // 5 + 1
        return torch.arange(length) < kept[:, None]

    features.set_params(mask=mask, cache="memory")
    twin = copy.deepcopy(network)
    _, kept = by_plain_hooks(twin, lambda net: net(**batch(X)))
    expected = kept[layer][:, :, : (900 - 10) // 5 + 1].mean(2)
    np.testing.assert_allclose(features.fit_transform(X), expected, atol=1e-5)
    features.set_params(mask=lambda attention_mask, length: torch.zeros(2, length))
    message = r"keeps none of its .* positions in some rows"
    with pytest.raises(ValueError, match=message):
        features.fit(X)


# Forms of a network ----------------------------------------------------------------


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.mid = nn.Sequential(nn.Conv2d(6, 7, 3), nn.ReLU(inplace=True))
        self.drop, self.fc = nn.Dropout(), nn.Linear(7, 4)

    def forward(self, x):
        x = self.mid(self.norm(self.conv(x)))
        return self.fc(self.drop(x.mean((2, 3))))


def small():
    torch.manual_seed(0)
    return Small()


def changed(change):
    network = small()
    for part in (network.conv, network.fc):
        change(part)
    return network


def scripted():
    network = small()
    network.mid = torch.jit.script(network.mid)
    return network


def quantised():
    network = small()
    network.fc = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 4))
    kinds = {nn.Linear}
    return torch.ao.quantization.quantize_dynamic(network, kinds)


def compiled_part():
    network = small()
    network.mid.compile(backend="eager")
    return network


FORMS = {
    "plain": small,
    "weight norm": lambda: changed(weight_norm),
    "spectral norm": lambda: changed(spectral_norm),
    "old weight norm": lambda: changed(nn.utils.weight_norm),
    "old spectral norm": lambda: changed(nn.utils.spectral_norm),
    "pruned": lambda: changed(lambda p: prune.l1_unstructured(p, "weight", 0.5)),
    "scripted part": scripted,
    "quantised": quantised,
    "compiled part": compiled_part,
    "double": lambda: small().double(),
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("form", FORMS)
def test_forms_of_a_network(form, training):
    network = FORMS[form]().train(training)
    X = torch.randn(N_ROWS, 3, 9, 9)

    def batch(rows):
        wide = torch.as_tensor(rows).to(network.norm.weight.dtype)
        return {"x": wide}

    if form == "compiled part":
        _, kept = by_plain_hooks(small(), lambda net: net(**batch(X)))
        expected = kept["mid.0"].mean((2, 3))
        features = LayerFeatureTransformer(network, ["mid.0"], preprocess=batch)
        before = state(network)
        found = features.fit_transform(X).block("mid.0")
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert_same_state(before, state(network))
        return
    layers = ["conv", "norm", *(["mid.0", "fc"] if form == "plain" else [])]
    check(network, X, batch, layers=layers, twin=FORMS[form]())


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_a_compiled_network(training):
    network = small().train(training)
    X = torch.randn(N_ROWS, 3, 9, 9)
    _, kept = by_plain_hooks(small(), lambda net: net(X))
    before = state(network)
    compiled = torch.compile(network, backend="eager")
    found = LayerFeatureTransformer(compiled, ["conv", "fc"]).fit_transform(X)
    np.testing.assert_allclose(found.block("fc"), kept["fc"], atol=1e-5)
    expected = kept["conv"].mean((2, 3))
    np.testing.assert_allclose(found.block("conv"), expected, atol=1e-5)
    assert_same_state(before, state(network))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("merged", [False, True], ids=["apart", "merged"])
def test_adapters_of_peft(merged, training):
    peft = pytest.importorskip(
        "peft", reason="no dependency of skood's; needs accelerate"
    )
    network = built(TEXTS["BERT"], training)
    config = peft.LoraConfig(
        target_modules=["query", "value"], r=2, init_lora_weights=False
    )
    network = peft.get_peft_model(network, config).train(training)
    if merged:
        network.merge_adapter()
    X = torch.randint(3, 20, (N_ROWS, 8))

    def batch(rows):
        return {"input_ids": rows, "attention_mask": torch.ones_like(rows)}

    check(network, X, batch, {8}, lambda length: torch.ones(N_ROWS, length))


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224", "test_convnext"])
def test_networks_of_timm(name, training):
    timm = pytest.importorskip(
        "timm", reason="no dependency of skood's; needs torchvision"
    )
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=4).train(training)
    size = 224 if "224" in name else 64
    check(network, torch.randn(N_ROWS, 3, size, size), lambda rows: {"x": rows})
