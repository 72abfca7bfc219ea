"""interplay: the open, trainable stack for interaction models."""

__version__ = "0.1.0"
