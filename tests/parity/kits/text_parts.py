"""Small text encoders and tokenizers with random weights, built without any download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import (
    BertConfig,
    BertModel,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    GemmaConfig,
    GemmaForCausalLM,
    GlmConfig,
    GlmModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLProcessor,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    SmolLM3Config,
    SmolLM3ForCausalLM,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from tests.parity.tiny_flux import byte_t5_tokenizer
from tests.parity.tiny_pipelines import byte_tokenizer, text_config

#: Width of what every one of these encoders gives.
WIDTH = 32
_WORDS = 258
_DECODER = {
    "vocab_size": _WORDS,
    "hidden_size": WIDTH,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
_CHAT = (
    "{% for m in messages %}{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for c in m['content'] %}{{ c.get('text', '') }}{% endfor %}{% endif %}"
    "{% endfor %}"
)


def words(*, is_chat: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes, with a template for chats where a pipeline has them."""
    made = byte_t5_tokenizer()
    made.bos_token = "</s>"
    if is_chat:
        made.chat_template = _CHAT
        made.model_max_length = 512
    return made


def clip(folder: Path, suffix: str = "", *, has_projection: bool = False) -> dict[str, Any]:
    """A CLIP text encoder and its tokenizer."""
    tokenizer = byte_tokenizer(folder)
    kind = CLIPTextModelWithProjection if has_projection else CLIPTextModel
    return {
        f"tokenizer{suffix}": tokenizer,
        f"text_encoder{suffix}": kind(text_config(tokenizer)).eval(),
    }


def t5(suffix: str = "", width: int = WIDTH) -> dict[str, Any]:
    """A T5 encoder and its tokenizer."""
    config = T5Config(vocab_size=_WORDS, d_model=width, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    return {f"tokenizer{suffix}": words(), f"text_encoder{suffix}": T5EncoderModel(config).eval()}


def umt5() -> dict[str, Any]:
    """AuraFlow's."""
    config = UMT5Config(
        vocab_size=_WORDS, d_model=WIDTH, d_kv=8, d_ff=64, num_layers=2, num_heads=4
    )
    return {"tokenizer": words(), "text_encoder": UMT5EncoderModel(config).eval()}


def bert() -> BertModel:
    """Hunyuan-DiT's first."""
    return BertModel(
        BertConfig(
            vocab_size=_WORDS,
            hidden_size=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=128,
        )
    ).eval()


def decoder(kind: str, **differences: Any) -> Any:
    """A language model of which a pipeline takes the hidden states."""
    made: dict[str, tuple[Any, Any]] = {
        "gemma": (GemmaForCausalLM, GemmaConfig),
        "gemma2": (Gemma2Model, Gemma2Config),
        "glm": (GlmModel, GlmConfig),
        "qwen3": (Qwen3ForCausalLM, Qwen3Config),
        "qwen3-model": (Qwen3Model, Qwen3Config),
        "smollm3": (SmolLM3ForCausalLM, SmolLM3Config),
    }
    model, config = made[kind]
    return model(config(**(_DECODER | differences))).eval()


_SEEN = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")


def qwen_processor() -> Qwen2VLProcessor:
    """Qwen-Image-Edit's, but for videos: what reads those needs torchvision."""
    tokenizer = words(is_chat=True)
    tokenizer.add_special_tokens({"additional_special_tokens": list(_SEEN)})
    made = Qwen2VLProcessor.__new__(Qwen2VLProcessor)
    made.image_processor = Qwen2VLImageProcessorPil()
    made.tokenizer, made.chat_template = tokenizer, _CHAT
    made.image_token, made.video_token = _SEEN[:2]
    made.image_token_id, made.video_token_id = tokenizer.convert_tokens_to_ids(list(_SEEN[:2]))
    made.image_ids, made.video_ids = [made.image_token_id], [made.video_token_id]
    made.audio_ids = [None]
    return made


def qwen_vl(*, sees: Any = None) -> Qwen2_5_VLForConditionalGeneration:
    """Qwen-Image's; one that sees pictures has a tokenizer with places for them."""
    text = {name: value for name, value in _DECODER.items() if name != "head_dim"}
    ids = (3, 4, 5, 6) if sees is None else sees.convert_tokens_to_ids(list(_SEEN))
    text["vocab_size"] = _WORDS if sees is None else len(sees)
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config=text
            | {"rope_scaling": {"mrope_section": [2, 2, 4], "rope_type": "default"}},
            vision_config={
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": WIDTH,
            },
            image_token_id=ids[0],
            video_token_id=ids[1],
            vision_start_token_id=ids[2],
            vision_end_token_id=ids[3],
        )
    ).eval()
