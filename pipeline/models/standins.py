"""Tiny models with random weights and the true architectures, for dry runs and tests: real code paths, empty heads.

Their answers mean nothing. Each folder holds a note that says so.
"""

from pathlib import Path
from typing import Any

NOTE = "Random weights: a stand-in for dry runs and tests. Nothing it says means anything.\n"

VISION_SIDE_PX = 336  # frames are brought to at most this: keeps a CPU engine quick
MAX_TOKENS = 4096
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"]
IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"

# The form of Qwen's own chat: turns between <|im_start|> and <|im_end|>, one pad for each picture or video.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content -%}
{%- if part.type in ('image', 'image_url') -%}<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type == 'video' -%}<|vision_start|><|video_pad|><|vision_end|>
{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor %}{% endif %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}"""


def build_qwen2_5_vl(folder: Path) -> Path:
    """A Qwen2.5-VL of about 0.3 million parameters with tokenizer and processors, in `folder`. A second or two."""
    import torch
    import transformers
    from transformers import (
        GenerationConfig,
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
    )
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    transformers.utils.logging.disable_progress_bar()
    tokenizer = _tokenizer()
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in [*SPECIAL, IMAGE, VIDEO]}
    hidden, heads = 64, 2
    half = hidden // heads // 2
    spatial = half * 3 // 8
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": -(-len(tokenizer) // 64) * 64,
            "hidden_size": hidden,
            "intermediate_size": 2 * hidden,
            "num_hidden_layers": 2,
            "num_attention_heads": heads,
            "num_key_value_heads": 1,
            "max_position_embeddings": MAX_TOKENS,
            # rotary positions in three parts, as in the real model: time, height, width
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [half - 2 * spatial, spatial, spatial],
            },
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "depth": 2,
            "hidden_size": hidden,
            "intermediate_size": 2 * hidden,
            "num_heads": 2,
            "out_hidden_size": hidden,
            "fullatt_block_indexes": [1],
            "tokens_per_second": 2,
        },
        image_token_id=ids[IMAGE],
        video_token_id=ids[VIDEO],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False,
        dtype="bfloat16",
    )
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config).to(torch.bfloat16)  # type: ignore[arg-type]
    model.generation_config = GenerationConfig(
        bos_token_id=ids["<|endoftext|>"],
        eos_token_id=[ids["<|im_end|>"], ids["<|endoftext|>"]],
        pad_token_id=ids["<|endoftext|>"],
    )
    model.save_pretrained(folder)
    size: Any = {"shortest_edge": 56 * 56, "longest_edge": VISION_SIDE_PX**2}
    Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=size),
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)
    return _noted(folder)


def build_clip(folder: Path) -> Path:
    """A CLIP with ViT-B/32's input, patches and 512-d output, and two thin layers in between, in `folder`."""
    import torch
    import transformers
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    transformers.utils.logging.disable_progress_bar()
    thin = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(text_config=thin, vision_config={**thin, "patch_size": 32}, projection_dim=512)
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)
    return _noted(folder)


def _tokenizer() -> Any:
    """Byte-level BPE, as Qwen's is, trained on this package's own source."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    sources = sorted(Path(__file__).parent.parent.rglob("*.py"))
    trainer = trainers.BpeTrainer(
        vocab_size=1000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator((path.read_text(encoding="utf-8") for path in sources), trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in [*SPECIAL, IMAGE, VIDEO]])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=MAX_TOKENS,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _noted(folder: Path) -> Path:
    (folder / "STAND-IN.txt").write_text(NOTE)
    return folder
