"""Random-weight models of real architectures for tests: nothing is downloaded."""

from __future__ import annotations

import torch
from transformers import (
    AutoModelForCausalLM,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    Phi3Config,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

from steerlab.backends.fake import byte_tokenizer

D_MODEL, N_LAYERS, N_HEADS = 48, 4, 4

_SHARED = {
    "vocab_size": len(byte_tokenizer()),
    "hidden_size": D_MODEL,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": N_HEADS,
    "intermediate_size": 80,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": byte_tokenizer().eos_token_id,
    "pad_token_id": byte_tokenizer().pad_token_id,
    "initializer_range": 0.2,  # wide enough that texts differ and steering shows
}
_GROUPED = {**_SHARED, "num_key_value_heads": 2}
_SQUARE = {**_GROUPED, "intermediate_size": D_MODEL}  # as wide as the stream: the axes of a matrix look alike
_GEMMA = {"head_dim": 16, "sliding_window": 8, "query_pre_attn_scalar": 16}
_EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "decoder_sparse_step": 2}
_GPT2 = {
    {"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head"}.get(k, k): v
    for k, v in _SHARED.items()
    if k not in ("intermediate_size", "max_position_embeddings")
}
CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**_GROUPED),
    "llama-tied": LlamaConfig(**_GROUPED, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**_GROUPED, head_dim=16),
    "gemma3": Gemma3TextConfig(**_GROUPED, **_GEMMA),
    "gpt2": GPT2Config(**_GPT2, n_positions=256),
    "gpt-neox": GPTNeoXConfig(**_SHARED),
    "mistral": MistralConfig(**_GROUPED, sliding_window=None),
    "qwen2-tied": Qwen2Config(**_SQUARE, tie_word_embeddings=True),
    "qwen3-moe": Qwen3MoeConfig(**_SQUARE, **_EXPERTS, head_dim=16, mlp_only_layers=[0]),
    "gemma2": Gemma2Config(**_GROUPED, **_GEMMA),
    "mixtral": MixtralConfig(**_SQUARE, num_local_experts=8, sliding_window=None),
    "phi3": Phi3Config(**_SQUARE),
    "olmo2": Olmo2Config(**_SQUARE),
    "falcon": FalconConfig(**_SQUARE, bias=True),
    "falcon-new": FalconConfig(**_SQUARE, new_decoder_architecture=True, num_kv_heads=2),
}
ARCHITECTURES = tuple(CONFIGS)
PARALLEL = ("gpt-neox", "falcon", "falcon-new")
NORM_AFTER = ("gemma2", "gemma3", "olmo2")  # a norm stands between the sublayers' matrices and the stream


def build(architecture: str, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A new random model of one of ARCHITECTURES."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(CONFIGS[architecture], dtype=dtype)
    for name, parameter in model.named_parameters():  # biases and norms start at 0 and 1: move them too
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()
