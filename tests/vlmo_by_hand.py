"""VLMo in plain NumPy, pair by pair and token by token: slow, and written for nothing but comparison."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import erf

Array = np.ndarray
Weights = Mapping[str, Array]


class VlmoByHand:
    """The equations of the official code for one image and one text without padding."""

    def __init__(self, weights: Weights, *, heads: int, side: int, reach: int) -> None:
        self.w = {name: np.asarray(value, dtype=np.float64) for name, value in weights.items()}
        self.heads, self.side, self.reach = heads, side, reach
        self.layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("transformer.blocks."))

    def image(self, pixels: Array, *, vl: bool = False) -> Array:
        x = self._image(pixels)
        states = self._blocks(x, ["image"] * len(x), self._image_rows(), vl=vl)
        return self._unit(self.w[f"itc_{'vl_' if vl else ''}image_proj.fc.weight"] @ states[0])

    def text(self, ids: list[int], *, vl: bool = False) -> Array:
        x = self._words(ids)
        states = self._blocks(x, ["text"] * len(x), self._text_rows(len(ids)), vl=vl)
        return self._unit(self.w[f"itc_{'vl_' if vl else ''}text_proj.fc.weight"] @ states[0])

    def fused(self, pixels: Array, ids: list[int]) -> tuple[Array, Array]:
        """The pooled vector and all last states, the text's first."""
        words, image = self._words(ids), self._image(pixels)
        n = (2 * self.side - 1) ** 2
        rows = np.zeros((len(words) + len(image),) * 2, dtype=int)
        rows[: len(words), : len(words)] = self._text_rows(len(ids))
        rows[len(words) :, len(words) :] = self._image_rows()
        rows[: len(words), len(words) :] = n + 3
        rows[len(words) :, : len(words)] = n + 4
        kinds = ["text"] * len(words) + ["image"] * len(image)
        states = self._blocks(np.concatenate([words, image]), kinds, rows, vl=True)
        return np.tanh(self.w["pooler.dense.weight"] @ states[0] + self.w["pooler.dense.bias"]), states

    def _image(self, pixels: Array) -> Array:
        kernel = self.w["transformer.patch_embed.proj.weight"]
        size = kernel.shape[-1]
        tokens = [self.w["transformer.cls_token"][0, 0]]
        for down in range(self.side):
            for across in range(self.side):
                patch = pixels[:, down * size : (down + 1) * size, across * size : (across + 1) * size]
                tokens.append((kernel * patch).sum((1, 2, 3)) + self.w["transformer.patch_embed.proj.bias"])
        x = np.stack(tokens) + self.w["token_type_embeddings.weight"][1]
        return x + self.w["transformer.pos_embed"][0] if "transformer.pos_embed" in self.w else x

    def _words(self, ids: list[int]) -> Array:
        x = self.w["text_embeddings.word_embeddings.weight"][ids]
        x = x + self.w["text_embeddings.token_type_embeddings.weight"][0]
        if "relative_position_bias_table" not in self.w:
            x = x + self.w["text_embeddings.position_embeddings.weight"][: len(ids)]
        return self._norm(x, "text_embeddings.LayerNorm", 1e-12) + self.w["token_type_embeddings.weight"][0]

    def _image_rows(self) -> Array:
        """Query by key: where the query lies from the key, row by row of a square of 2 side - 1."""
        width, n = 2 * self.side - 1, (2 * self.side - 1) ** 2
        rows = np.zeros((self.side**2 + 1,) * 2, dtype=int)
        for q in range(self.side**2):
            for k in range(self.side**2):
                down, across = q // self.side - k // self.side, q % self.side - k % self.side
                rows[q + 1, k + 1] = (down + self.side - 1) * width + across + self.side - 1
        rows[0, 1:], rows[1:, 0], rows[0, 0] = n, n + 1, n + 2
        return rows

    def _text_rows(self, length: int) -> Array:
        first = (2 * self.side - 1) ** 2 + 3 + 2
        last = first + 2 * self.reach
        rows = np.zeros((length, length), dtype=int)
        for q in range(1, length):
            for k in range(1, length):
                rows[q, k] = first + (k - q) + self.reach - 2
        rows[0, 1:], rows[1:, 0], rows[0, 0] = last - 3, last - 2, last - 1
        return rows

    def _blocks(self, x: Array, kinds: list[str], rows: Array, *, vl: bool) -> Array:
        for layer in range(self.layers):
            prefix = f"transformer.blocks.{layer}."
            gamma = [self.w.get(f"{prefix}gamma_{n}", 1.0) for n in (1, 2)]
            x = x + gamma[0] * self._attention(self._norm(x, f"{prefix}norm1", 1e-6), layer, rows)
            for token, kind in enumerate(kinds):
                both = vl and f"{prefix}mlp_vl.fc1.weight" in self.w
                name = "vl" if both else {"image": "imag", "text": "text"}[kind]
                y = self._norm(x[token], f"{prefix}norm2_{name}", 1e-6)
                y = self._linear(y, f"{prefix}mlp_{name}.fc1")
                y = self._linear(y * (1 + erf(y / np.sqrt(2))) / 2, f"{prefix}mlp_{name}.fc2")
                x[token] = x[token] + gamma[1] * y
        return self._norm(x, "transformer.norm", 1e-6)

    def _attention(self, x: Array, layer: int, rows: Array) -> Array:
        prefix = f"transformer.blocks.{layer}.attn."
        q, k, v = np.split(x @ self.w[f"{prefix}qkv.weight"].T, 3, axis=1)
        q, v = q + self.w[f"{prefix}q_bias"], v + self.w[f"{prefix}v_bias"]
        width = x.shape[1] // self.heads
        out = []
        for head in range(self.heads):
            cut = slice(head * width, (head + 1) * width)
            logits = q[:, cut] @ k[:, cut].T / np.sqrt(width)
            if "relative_position_bias_table" in self.w:
                logits = logits + self.w["relative_position_bias_table"][rows, layer * self.heads + head]
            weights = np.exp(logits - logits.max(1, keepdims=True))
            out.append(weights / weights.sum(1, keepdims=True) @ v[:, cut])
        return self._linear(np.concatenate(out, axis=1), f"{prefix}proj")

    def _linear(self, x: Array, name: str) -> Array:
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def _norm(self, x: Array, name: str, eps: float) -> Array:
        centered = x - x.mean(-1, keepdims=True)
        scaled = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + eps)
        return scaled * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    @staticmethod
    def _unit(x: Array) -> Array:
        return x / np.linalg.norm(x)
