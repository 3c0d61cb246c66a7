"""What counts of a Hugging Face object: its settings, not the notes that it keeps.

A fast tokenizer remembers in itself how it was called last, and tokenizers, networks
and configurations know the folder they came from. None of that changes what they make
of an input, so none of it may change a fingerprint.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["NETWORK_NOTES", "settings_of"]

NETWORK_NOTES = {
    *("name_or_path", "_output_capturing_hooks_installed", "generation_config"),
    *("_is_hf_initialized", "warnings_issued", "_loss_function", "_hf_hook"),
    *("_weight_conversions", "_use_kernels"),
}
"""Attributes of networks that say where from, what was asked, how texts are written."""

_NOTES = NETWORK_NOTES | {
    *("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype"),
    *("init_inputs", "init_kwargs", "vocab_file", "files_loaded", "cache", "verbose"),
    *("deprecation_warnings", "_in_target_context_manager", "_lock"),
    *("_processor_class", "_should_update_post_processor"),
}
"""The same of configurations, whose type the weights have, and of tokenizers."""

_OF_CALL = {"padding", "truncation"}
"""Parts of a fast tokenizer's backend that every call sets anew."""

_OF_BACKEND = {"_vocab", "_merges"}
"""Attributes whose content the backend's own text has."""


def settings_of(value: Any) -> dict[str, Any] | None:
    """Return what an object of Hugging Face's libraries does; None for the rest."""
    homes = {kind.__module__.partition(".")[0] for kind in type(value).__mro__}
    if "tokenizers" in homes and hasattr(value, "to_str"):
        held, hidden = json.loads(value.to_str()), _OF_CALL
    elif "transformers" in homes:
        whole = hasattr(value, "to_dict")
        held = value.to_dict() if whole else value.__reduce_ex__(4)[2]
        hidden = _NOTES | (_OF_BACKEND if "_tokenizer" in held else set())
    else:
        return None
    return {name: part for name, part in held.items() if name not in hidden}
