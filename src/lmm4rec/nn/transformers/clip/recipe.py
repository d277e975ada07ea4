"""The fine-tuning recipe of CLIP.

CLIP's authors published no fine-tuning. The rates are those of "Finetune like you pretrain" (Goyal et al. 2023, arXiv
2212.00638), which fine-tunes CLIP by its own contrastive loss: github.com/locuslab/FLYP, README.md, learning rate
1e-5 at batches of 256 and of 512 alike, weight decay .1 (ImageNet), AdamW, cosine with warm-up, no clipping of
gradients (src/models/flyp_loss.py). Its warm-up of 500 steps is a tenth of all steps here, since a catalog has fewer.

From CLIP's paper (arXiv 2103.00020, sec. 2.5): gains and biases do not decay (FLYP decays all tensors), and the
temperature is bounded after each step.
"""

from __future__ import annotations

from lmm4rec.nn.transformers.recipe import FinetuningRecipe

RECIPE = FinetuningRecipe(
    source="locuslab/FLYP, README.md, ImageNet; arXiv 2103.00020, sec. 2.5", learning_rate=1e-5, schedule="cosine",
    warmup=0.1, weight_decay=0.1, bounds_temperature=True,
)  # fmt: skip

BELOW_BLOCKS = {
    "image": ("vision_model.embeddings.", "vision_model.pre_layrnorm."),
    "text": ("text_model.embeddings.",),
}
