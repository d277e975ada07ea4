"""The built-in toy shop: items with images and text, users and purchases drawn from a seed, with known tastes."""
