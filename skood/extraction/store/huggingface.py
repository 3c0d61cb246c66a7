"""What counts of a Hugging Face object: its settings, not the notes that it keeps.

A fast tokenizer remembers in itself how it was called last, and tokenizers, networks
and configurations know the folder they came from. None of that changes what they make
of an input, so none of it may change a fingerprint.
"""

from __future__ import annotations

import json
import sys
from typing import Any

__all__ = ["NETWORK_NOTES", "config_content", "is_tokenizer", "tokenizer_content"]

NETWORK_NOTES = {"name_or_path", "_output_capturing_hooks_installed"}
"""Attributes of networks: where from, and whether hidden states were asked for yet."""

_CONFIG_NOTES = {"_name_or_path", "transformers_version"}

_TOKENIZER_NOTES = {
    *("name_or_path", "init_inputs", "init_kwargs", "vocab_file", "files_loaded"),
    *("verbose", "deprecation_warnings", "_in_target_context_manager", "_lock"),
    *("_processor_class", "cache"),
}

_CALL_SETTINGS = ("padding", "truncation")
"""Parts of a fast tokenizer's backend that every call sets anew."""

_OF_BACKEND = {"_tokenizer", "_vocab", "_merges"}
"""Attributes whose content the backend's own text has."""


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
    return {name: value for name, value in content.items() if name not in dropped}


def config_content(config: Any) -> dict[str, Any] | None:
    """Return the settings of a network's configuration.

    Parameters
    ----------
    config : object
        What a module has as its attribute ``config``.

    Returns
    -------
    dict or None
        None for what is no configuration of transformers.
    """
    home = sys.modules.get("transformers.configuration_utils")
    kinds = [
        getattr(home, name, ()) for name in ("PretrainedConfig", "PreTrainedConfig")
    ]
    if not any(isinstance(config, kind) for kind in kinds):
        return None
    settings = config.to_dict()
    return {name: settings[name] for name in settings if name not in _CONFIG_NOTES}
