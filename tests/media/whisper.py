"""A speech model of faster-whisper's form that was taught nothing: what it hears is noise, but it hears it for real."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2.specs import WhisperSpec
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

MELS, WIDTH, INNER, HEADS = 80, 64, 128, 2
FRAMES, LONGEST = 1500, 448  # of a window of half a minute, and of what is said in it
SECOND = 50  # timestamps in one

WORDS = sorted(pre_tokenizers.ByteLevel.alphabet())
MARKS = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
    *(f"<|{number / SECOND:.2f}|>" for number in range(30 * SECOND + 1)),
]


def write_model(folder: Path) -> None:
    """Write one with random weights, the same each time."""
    chance = np.random.default_rng(1)

    def some(*shape: int) -> Any:
        return chance.normal(0, 0.1, shape).astype(np.float32)

    def norm(spec: Any) -> None:
        spec.gamma, spec.beta = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)

    def through(linear: Any, *widths: int) -> None:
        for spec, (wide, out) in zip(linear, pairwise(widths), strict=True):
            spec.weight, spec.bias = some(out, wide), some(out)

    def attends(spec: Any, *widths: int) -> None:
        norm(spec.layer_norm)
        for linear, width in zip(spec.linear, widths, strict=True):
            linear.weight, linear.bias = some(width, WIDTH), some(width)

    def thinks(spec: Any) -> None:
        norm(spec.layer_norm)
        through((spec.linear_0, spec.linear_1), WIDTH, INNER, WIDTH)

    spec = WhisperSpec(1, HEADS, 1, HEADS)
    for convolution, channels in ((spec.encoder.conv1, MELS), (spec.encoder.conv2, WIDTH)):
        convolution.weight, convolution.bias = some(WIDTH, channels, 3), some(WIDTH)
    for half, positions in ((spec.encoder, FRAMES), (spec.decoder, LONGEST)):
        half.position_encodings.encodings = some(positions, WIDTH)
        norm(half.layer_norm)
        [layer] = half.layer
        attends(layer.self_attention, 3 * WIDTH, WIDTH)
        thinks(layer.ffn)
    attends(spec.decoder.layer[0].attention, WIDTH, 2 * WIDTH, WIDTH)
    spec.decoder.embeddings.weight = some(len(WORDS) + len(MARKS), WIDTH)
    spec.decoder.projection.weight = spec.decoder.embeddings.weight
    spec.register_vocabulary([*WORDS, *MARKS])
    spec.config.suppress_ids = spec.config.suppress_ids_begin = []
    spec.validate()
    spec.optimize()
    folder.mkdir(exist_ok=True)
    spec.save(str(folder))
    tokenizer = Tokenizer(models.BPE({word: number for number, word in enumerate(WORDS)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(MARKS)
    tokenizer.save(str(folder / "tokenizer.json"))
