"""The fine-tuning recipes of VLMo's official code.

github.com/microsoft/unilm, commit 768a3c8. vlmo/vlmo/config.py, `task_finetune_irtr_*`: learning rate, drop path, the
batch of 3,072, and the warm-up (150 of 1,500 steps, 300 of 3,000); above them the defaults, weight decay .01 and a
linear decline to 0. `set_schedule` in vlmo/vlmo/modules/vlmo_utils.py: AdamW with betas .9 and .98, no layer decay.
`compute_irtr` in vlmo/vlmo/modules/objectives.py: the contrastive loss in the space of the modalities' own experts
alone; its bound on the temperature is commented out. vlmo/run.py does not clip gradients.

Drop path is that of the configuration for the image size: .15 of base at 224 pixels (Flickr30k, the only one at 224),
.2 of base plus and large.

The objective of pre-training, `compute_itc` and `compute_itm_hardneg` in objectives.py, is half of the sum of both
contrastive losses, plus matching; masked language modeling is left out here, for the inputs are not masked.

Differs: the names of `no_decay` in `set_schedule` miss norm2_text, norm2_imag, norm2_vl, the layer scales and the
tables of absolute positions. They do not decay here.
"""

from __future__ import annotations

from dataclasses import replace

from lmm4rec.nn.transformers.recipe import FinetuningRecipe
from lmm4rec.nn.transformers.vlmo.network import VlmoShape

SOURCE = "microsoft/unilm, vlmo/vlmo/config.py, task_finetune_irtr"
_LARGE_DIM = 1024
_BASE_LAYERS = 12

BELOW_BLOCKS = {
    "image": ("patches.", "image_positions", "types."),
    "text": ("words.", "text_positions.", "text_types.", "text_norm."),
}


def retrieval_recipe(shape: VlmoShape) -> FinetuningRecipe:
    """The recipe for retrieval."""
    return FinetuningRecipe(
        source=SOURCE, learning_rate=2e-5 if shape.dim >= _LARGE_DIM else 3e-5, batch_size=3072, schedule="linear",
        warmup=0.1, betas=(0.9, 0.98), weight_decay=0.01, drop_path=0.15 if shape.layers <= _BASE_LAYERS else 0.2,
    )  # fmt: skip


def pretraining_recipe(shape: VlmoShape) -> FinetuningRecipe:
    """The recipe for retrieval with the losses of pre-training on pairs."""
    return replace(retrieval_recipe(shape), main_weight=0.5, vl_weight=0.5, matching_weight=1.0)
