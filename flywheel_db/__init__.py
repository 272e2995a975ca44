"""A data flywheel for LLM applications inside PostgreSQL."""

__version__ = "0.1.0"
