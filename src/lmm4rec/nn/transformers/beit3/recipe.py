"""The fine-tuning recipe of BEiT-3's official code for image-text retrieval on COCO.

github.com/microsoft/unilm, commit 768a3c8. The commands in beit3/get_started/get_started_for_retrieval.md give
learning rate, layer decay, drop path, weight decay, the batch of 3,072 (192 on 16 GPUs, large: 96 on 32) and the
warm-up (3 of 15 epochs); beit3/run_beit3_finetuning.py has the defaults of the rest: betas .9 and .999, no clipping
of gradients, and a cosine down to 1e-6. The temperature has no bound (`ClipLoss` in beit3/utils.py,
`logit_scale.exp()` in beit3/modeling_finetune.py).

Layers as in `get_num_layer_for_vit` of beit3/optim_factory.py: all embeddings are layer 0, block i is layer i + 1,
norm, heads and temperature are the last one, whose rate is not lowered.

Differs: the warm-up begins at 0 instead of 1e-6, and the text's positions do not decay either.
"""

from __future__ import annotations

from lmm4rec.nn.transformers.beit3.network import Beit3Shape
from lmm4rec.nn.transformers.recipe import FinetuningRecipe

SOURCE = "microsoft/unilm, beit3/get_started/get_started_for_retrieval.md, COCO"
_LARGE_LAYERS = 24

BELOW_BLOCKS = {"image": ("patches.", "mask_token", "image_positions"), "text": ("words.", "text_positions")}


def retrieval_recipe(shape: Beit3Shape) -> FinetuningRecipe:
    """The recipe for a BEiT-3 of the size base or large; smaller ones have that of base."""
    large = shape.layers >= _LARGE_LAYERS
    rate = 5e-5 if large else 2e-4
    return FinetuningRecipe(
        source=SOURCE, learning_rate=rate, batch_size=3072, schedule="cosine", warmup=3 / 15, end=1e-6 / rate,
        weight_decay=0.05, layer_decay=0.85 if large else 0.65, drop_path=0.2,
    )  # fmt: skip
