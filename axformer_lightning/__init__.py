"""Make fine-tuned transformer encoders smaller, faster and more accurate, decided by measured accuracy."""

__version__ = "0.1.0"
