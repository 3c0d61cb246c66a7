"""Networks and tokenizers of transformers, small and made here."""

from __future__ import annotations

import os
from functools import partial

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pytest
import torch

transformers = pytest.importorskip("transformers", reason="needs skood[hf]")
tokenizers = pytest.importorskip("tokenizers", reason="needs skood[hf]")

WORDS = list("abcdefghijklmnop")
MASK = "attention_mask"
SMALL = {
    "vocab_size": 20,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}


def sentences(n=20, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 30))) for _ in range(n)]


def make_tokenizer(side="right", words=WORDS, **settings):
    """A fast tokenizer of whole words, as from_pretrained would give one."""
    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", *words])}
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]")
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", 2)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        padding_side=side,
        model_max_length=24,
        model_input_names=["input_ids", "attention_mask"],
        **settings,
    )


def tokens(tokenizer, texts):
    return tokenizer(texts, padding=True, truncation=True, return_tensors="pt")


def made(kind, config, **settings):
    torch.manual_seed(0)
    config = getattr(transformers, config)(**settings)
    return getattr(transformers, kind)(config).eval()


def bert(**settings):
    return made("BertForSequenceClassification", "BertConfig", **SMALL, **settings)


def gpt2(kind="GPT2Model"):
    sizes = {"vocab_size": 20, "n_positions": 40, "n_embd": 16, "n_layer": 3}
    ends = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 2}
    return made(kind, "GPT2Config", **sizes, **ends, n_head=2)


def llama(kind="LlamaModel", **settings):
    return made(kind, "LlamaConfig", **SMALL, **settings)


# network, the layer whose output is the third hidden state, side of the padding
ENCODERS = {
    "BERT": (bert, "bert.encoder.layer.1", "right"),
    "BERT that returns all": (
        partial(bert, output_hidden_states=True, output_attentions=True),
        "bert.encoder.layer.1",
        "right",
    ),
    "DistilBERT": (
        lambda: made(
            "DistilBertForSequenceClassification",
            "DistilBertConfig",
            **{"vocab_size": 20, "dim": 16, "n_layers": 3, "n_heads": 2},
            hidden_dim=24,
        ),
        "distilbert.transformer.layer.1",
        "right",
    ),
    "T5 encoder": (
        lambda: made(
            "T5EncoderModel",
            "T5Config",
            **{"vocab_size": 20, "d_model": 16, "d_kv": 8, "d_ff": 24},
            **{"num_layers": 3, "num_heads": 2},
        ),
        "encoder.block.1",
        "right",
    ),
    "GPT-2": (gpt2, "h.1", "right"),
    "Llama, padded on the left": (llama, "layers.1", "left"),
}


def pooled_by_hand(network, batch):
    """Mean, maximum and first token of the third hidden state, row by row."""
    with torch.no_grad():
        hidden = network(**batch, output_hidden_states=True).hidden_states[2]
    kept = [row[mask.bool()] for row, mask in zip(hidden, batch[MASK], strict=True)]
    return {
        "avg": np.stack([row.mean(0).numpy() for row in kept]),
        "max": np.stack([row.amax(0).numpy() for row in kept]),
        "cls": np.stack([row[0].numpy() for row in kept]),
    }
