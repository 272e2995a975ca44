"""Vectors of texts, made without a model."""
