"""What counts of a Hugging Face object: its settings, not the notes that it keeps.

A fast tokenizer remembers in itself how it was called last, and tokenizers, networks
and configurations know the folder they came from. None of that changes what they make
of an input, so none of it may change a fingerprint.
"""

from __future__ import annotations

import json
import sys
from typing import Any

__all__ = ["NETWORK_NOTES", "settings_of"]

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


def settings_of(value: Any) -> dict[str, Any] | None:
    """Return what a tokenizer or a network's configuration does; None for the rest.

    Nothing is imported for it: who has such an object has imported its library.
    """
    if _is_one(value, "tokenization_utils_base", "PreTrainedTokenizerBase"):
        return _tokenizer(value)
    if _is_one(value, "configuration_utils", "PretrainedConfig", "PreTrainedConfig"):
        settings = value.to_dict()
        return {name: settings[name] for name in settings if name not in _CONFIG_NOTES}
    return None


def _is_one(value: Any, home: str, *names: str) -> bool:
    module = sys.modules.get(f"transformers.{home}")
    return any(isinstance(value, getattr(module, name, ())) for name in names)


def _tokenizer(tokenizer: Any) -> dict[str, Any]:
    """Return the state that pickle would keep, without notes.

    Of a fast tokenizer's backend it is its own text, without the padding and truncation
    of the last call.
    """
    content = dict(tokenizer.__reduce_ex__(4)[2])
    backend, dropped = content.get("_tokenizer"), _TOKENIZER_NOTES
    if backend is not None and hasattr(backend, "to_str"):
        dropped = dropped | _OF_BACKEND
        parts = json.loads(backend.to_str()).items()
        content["backend"] = [p for p in parts if p[0] not in _CALL_SETTINGS]
        content[_SPECIAL_TOKENS] = _texts(content.get(_SPECIAL_TOKENS))
    return {name: value for name, value in content.items() if name not in dropped}


def _texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _texts(token) for name, token in value.items()}
    if isinstance(value, (list, tuple)):
        return [_texts(token) for token in value]
    return None if value is None else str(value)
