"""What counts of a Hugging Face object: its settings, not the notes that it keeps.

A fast tokenizer remembers in itself how it was called last, and tokenizers, networks
and configurations know the folder they came from. None of that changes what they make
of an input, so none of it may change a fingerprint.
"""

from __future__ import annotations

import json
import sys
from typing import Any

__all__ = [
    "NETWORK_NOTES",
    "config_content",
    "is_config",
    "is_tokenizer",
    "tokenizer_content",
]

NETWORK_NOTES = {
    *("name_or_path", "_output_capturing_hooks_installed", "generation_config"),
    *("_is_hf_initialized", "warnings_issued", "_loss_function", "_hf_hook"),
    *("_weight_conversions", "_use_kernels"),
}
"""Attributes of networks that say where from, what was asked, how texts are written."""

_CONFIG_NOTES = {
    *("_name_or_path", "transformers_version", "architectures"),
    *("dtype", "torch_dtype"),  # the weights have it
}

_TOKENIZER_NOTES = {
    *("name_or_path", "init_inputs", "init_kwargs", "vocab_file", "files_loaded"),
    *("verbose", "deprecation_warnings", "_in_target_context_manager", "_lock"),
    *("_processor_class", "cache", "_should_update_post_processor"),
}

_CALL_SETTINGS = ("padding", "truncation")
"""Parts of a fast tokenizer's backend that every call sets anew."""

_OF_BACKEND = {"_tokenizer", "_vocab", "_merges"}
"""Attributes whose content the backend's own text has."""

_SPECIAL_TOKENS = "_special_tokens_map"
"""Texts at first, and after a save and a load objects with settings of their own."""


def is_tokenizer(value: Any) -> bool:
    """Return whether an object is a tokenizer of transformers, without importing it."""
    home = sys.modules.get("transformers.tokenization_utils_base")
    return isinstance(value, getattr(home, "PreTrainedTokenizerBase", ()))


def tokenizer_content(tokenizer: Any) -> dict[str, Any]:
    """Return what decides how a tokenizer turns a text into tokens.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Fast or slow.

    Returns
    -------
    dict
        The state that pickle would keep, without notes; of a fast tokenizer's backend
        its own text, without the padding and truncation of the last call.
    """
    content = dict(tokenizer.__reduce_ex__(4)[2])
    backend = content.get("_tokenizer")
    dropped = _TOKENIZER_NOTES
    if backend is not None and hasattr(backend, "to_str"):
        dropped = dropped | _OF_BACKEND
        parts = json.loads(backend.to_str())
        kept = {
            name: part for name, part in parts.items() if name not in _CALL_SETTINGS
        }
        content["backend"] = json.dumps(kept)
        content[_SPECIAL_TOKENS] = _texts(content.get(_SPECIAL_TOKENS))
    return {name: value for name, value in content.items() if name not in dropped}


def _texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _texts(token) for name, token in value.items()}
    if isinstance(value, (list, tuple)):
        return [_texts(token) for token in value]
    return None if value is None else str(value)


def is_config(value: Any) -> bool:
    """Return whether an object is a configuration of a network of transformers."""
    home = sys.modules.get("transformers.configuration_utils")
    names = ("PretrainedConfig", "PreTrainedConfig")
    return any(isinstance(value, getattr(home, name, ())) for name in names)


def config_content(config: Any) -> dict[str, Any]:
    """Return the settings of a network's configuration.

    Parameters
    ----------
    config : transformers.PreTrainedConfig
        What a module has as its attribute ``config``.
    """
    settings = config.to_dict()
    return {name: settings[name] for name in settings if name not in _CONFIG_NOTES}
