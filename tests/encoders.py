"""Encoders of transformers with random weights, small: texts, images and audio.

Each is the name of a class, of its configuration, and settings that make it small.
"""

from __future__ import annotations

from typing import Any

Spec = tuple[str, str, dict[str, Any]]

BASE = {
    "vocab_size": 20,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}
GROUPED = {**BASE, "num_key_value_heads": 1}
TEXTS: dict[str, Spec] = {
    "BERT": ("BertModel", "BertConfig", BASE),
    "RoBERTa": ("RobertaModel", "RobertaConfig", BASE),
    "XLM-RoBERTa": ("XLMRobertaModel", "XLMRobertaConfig", BASE),
    "ALBERT": ("AlbertModel", "AlbertConfig", {**BASE, "embedding_size": 8}),
    "ELECTRA": ("ElectraModel", "ElectraConfig", {**BASE, "embedding_size": 8}),
    "DistilBERT": (
        "DistilBertModel",
        "DistilBertConfig",
        {"vocab_size": 20, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
    ),
    "DeBERTa": (
        "DebertaV2Model",
        "DebertaV2Config",
        {**BASE, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    ),
    "MPNet": ("MPNetModel", "MPNetConfig", BASE),
    "ModernBERT": (
        "ModernBertModel",
        "ModernBertConfig",
        {
            **BASE,
            "cls_token_id": 1,
            "sep_token_id": 2,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
    ),
    "MobileBERT": (
        "MobileBertModel",
        "MobileBertConfig",
        {
            **BASE,
            "intra_bottleneck_size": 16,
            "true_hidden_size": 16,
            "embedding_size": 8,
        },
    ),
    "SqueezeBERT": (
        "SqueezeBertModel",
        "SqueezeBertConfig",
        {
            **BASE,
            "embedding_size": 16,
            "q_groups": 1,
            "k_groups": 1,
            "v_groups": 1,
            "post_attention_groups": 1,
            "intermediate_groups": 1,
            "output_groups": 1,
        },
    ),
    "ConvBERT": (
        "ConvBertModel",
        "ConvBertConfig",
        {**BASE, "embedding_size": 8, "head_ratio": 1},
    ),
    "Nystromformer": (
        "NystromformerModel",
        "NystromformerConfig",
        {**BASE, "num_landmarks": 8, "segment_means_seq_len": 8},
    ),
    "Funnel": (
        "FunnelModel",
        "FunnelConfig",
        {
            "vocab_size": 20,
            "d_model": 16,
            "n_head": 2,
            "d_head": 8,
            "d_inner": 24,
            "block_sizes": [1, 1],
        },
    ),
    "T5 encoder": (
        "T5EncoderModel",
        "T5Config",
        {
            "vocab_size": 20,
            "d_model": 16,
            "d_kv": 8,
            "d_ff": 24,
            "num_layers": 2,
            "num_heads": 2,
        },
    ),
    "GPT-2": (
        "GPT2Model",
        "GPT2Config",
        {
            "vocab_size": 20,
            "n_positions": 40,
            "n_embd": 16,
            "n_layer": 2,
            "n_head": 2,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
    ),
    "Llama": ("LlamaModel", "LlamaConfig", GROUPED),
    "Mistral": ("MistralModel", "MistralConfig", GROUPED),
    "Qwen2": ("Qwen2Model", "Qwen2Config", GROUPED),
    "Gemma": ("GemmaModel", "GemmaConfig", {**GROUPED, "head_dim": 8}),
    "GPT-NeoX": ("GPTNeoXModel", "GPTNeoXConfig", BASE),
    "OPT": (
        "OPTModel",
        "OPTConfig",
        {
            "vocab_size": 20,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "ffn_dim": 24,
            "max_position_embeddings": 40,
            "word_embed_proj_dim": 16,
        },
    ),
    "BLOOM": (
        "BloomModel",
        "BloomConfig",
        {"vocab_size": 20, "hidden_size": 16, "n_layer": 2, "n_head": 2},
    ),
    "Phi": ("PhiModel", "PhiConfig", BASE),
    "Mamba": (
        "MambaModel",
        "MambaConfig",
        {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4},
    ),
    "RWKV": (
        "RwkvModel",
        "RwkvConfig",
        {
            "vocab_size": 20,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "attention_hidden_size": 16,
            "intermediate_size": 24,
            "rescale_every": 1,
        },
    ),
}
VISION = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 32,
    "patch_size": 8,
}
IMAGES: dict[str, Spec] = {
    "ViT": ("ViTForImageClassification", "ViTConfig", VISION),
    "DeiT": ("DeiTForImageClassification", "DeiTConfig", VISION),
    "BEiT": ("BeitForImageClassification", "BeitConfig", VISION),
    "Data2Vec vision": ("Data2VecVisionModel", "Data2VecVisionConfig", VISION),
    "DINOv2": ("Dinov2Model", "Dinov2Config", VISION),
    "CLIP vision": ("CLIPVisionModel", "CLIPVisionConfig", VISION),
    "SigLIP vision": ("SiglipVisionModel", "SiglipVisionConfig", VISION),
    "Swin": (
        "SwinForImageClassification",
        "SwinConfig",
        {
            "image_size": 32,
            "patch_size": 4,
            "embed_dim": 8,
            "depths": [1, 1],
            "num_heads": [1, 2],
            "window_size": 4,
        },
    ),
    "Swin v2": (
        "Swinv2ForImageClassification",
        "Swinv2Config",
        {
            "image_size": 32,
            "patch_size": 4,
            "embed_dim": 8,
            "depths": [1, 1],
            "num_heads": [1, 2],
            "window_size": 4,
        },
    ),
    "ResNet": (
        "ResNetForImageClassification",
        "ResNetConfig",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
    ),
    "RegNet": (
        "RegNetForImageClassification",
        "RegNetConfig",
        {
            "embedding_size": 8,
            "hidden_sizes": [8, 16],
            "depths": [1, 1],
            "groups_width": 4,
        },
    ),
    "ConvNeXt": (
        "ConvNextForImageClassification",
        "ConvNextConfig",
        {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
    ),
    "ConvNeXt v2": (
        "ConvNextV2ForImageClassification",
        "ConvNextV2Config",
        {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
    ),
    "MobileNet v2": (
        "MobileNetV2ForImageClassification",
        "MobileNetV2Config",
        {"image_size": 32, "depth_multiplier": 0.25},
    ),
    "MobileViT": (
        "MobileViTForImageClassification",
        "MobileViTConfig",
        {
            "image_size": 32,
            "hidden_sizes": [8, 12, 16],
            "neck_hidden_sizes": [4, 8, 8, 8, 8, 8, 16],
            "num_attention_heads": 2,
        },
    ),
    "PoolFormer": (
        "PoolFormerForImageClassification",
        "PoolFormerConfig",
        {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16]},
    ),
    "SegFormer": (
        "SegformerForImageClassification",
        "SegformerConfig",
        {
            "depths": [1, 1, 1, 1],
            "hidden_sizes": [8, 8, 16, 16],
            "num_attention_heads": [1, 1, 2, 2],
        },
    ),
    "PVT": (
        "PvtForImageClassification",
        "PvtConfig",
        {
            "image_size": 32,
            "depths": [1, 1, 1, 1],
            "hidden_sizes": [8, 8, 16, 16],
            "num_attention_heads": [1, 1, 2, 2],
        },
    ),
    "FocalNet": (
        "FocalNetForImageClassification",
        "FocalNetConfig",
        {
            "image_size": 32,
            "embed_dim": 8,
            "depths": [1, 1],
            "hidden_sizes": [8, 16],
            "focal_levels": [1, 1],
            "focal_windows": [3, 3],
        },
    ),
    "LeViT": (
        "LevitForImageClassification",
        "LevitConfig",
        {
            "image_size": 32,
            "hidden_sizes": [16, 16, 16],
            "num_attention_heads": [1, 1, 1],
            "depths": [1, 1, 1],
            "key_dim": [8, 8, 8],
        },
    ),
    "BiT": (
        "BitForImageClassification",
        "BitConfig",
        {
            "embedding_size": 8,
            "hidden_sizes": [8, 16],
            "depths": [1, 1],
            "num_groups": 2,
        },
    ),
    "Hiera": (
        "HieraForImageClassification",
        "HieraConfig",
        {
            "image_size": [32, 32],
            "patch_size": [7, 7],
            "patch_stride": [4, 4],
            "patch_padding": [3, 3],
            "embed_dim": 8,
            "depths": [1, 1],
            "num_heads": [1, 2],
            "masked_unit_size": [2, 2],
            "query_stride": [2, 2],
            "num_query_pool": 1,
            "masked_unit_attention": [True, False],
        },
    ),
}
SPEECH = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [8, 8],
    "conv_stride": [5, 4],
    "conv_kernel": [10, 4],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}
AUDIO: dict[str, Spec] = {
    "wav2vec 2.0": (
        "Wav2Vec2Model",
        "Wav2Vec2Config",
        {**SPEECH, "feat_extract_norm": "layer"},
    ),
    "wav2vec 2.0 classifier": (
        "Wav2Vec2ForSequenceClassification",
        "Wav2Vec2Config",
        {**SPEECH, "feat_extract_norm": "layer", "classifier_proj_size": 8},
    ),
    "wav2vec 2.0 adapter": (
        "Wav2Vec2Model",
        "Wav2Vec2Config",
        {
            **SPEECH,
            "feat_extract_norm": "layer",
            "add_adapter": True,
            "num_adapter_layers": 2,
        },
    ),
    "HuBERT": ("HubertModel", "HubertConfig", {**SPEECH, "feat_extract_norm": "layer"}),
    "WavLM": ("WavLMModel", "WavLMConfig", {**SPEECH, "feat_extract_norm": "layer"}),
    "UniSpeech": (
        "UniSpeechModel",
        "UniSpeechConfig",
        {**SPEECH, "feat_extract_norm": "layer"},
    ),
    "UniSpeech-SAT": (
        "UniSpeechSatModel",
        "UniSpeechSatConfig",
        {**SPEECH, "feat_extract_norm": "layer"},
    ),
    "SEW": (
        "SEWModel",
        "SEWConfig",
        {**SPEECH, "feat_extract_norm": "layer", "squeeze_factor": 2},
    ),
    "Data2Vec audio": (
        "Data2VecAudioModel",
        "Data2VecAudioConfig",
        {**SPEECH, "num_conv_pos_embeddings": 1},
    ),
    "Wav2Vec2-Conformer": (
        "Wav2Vec2ConformerModel",
        "Wav2Vec2ConformerConfig",
        {**SPEECH, "feat_extract_norm": "layer", "conv_depthwise_kernel_size": 3},
    ),
}
