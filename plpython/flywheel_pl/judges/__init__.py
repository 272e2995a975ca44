"""LLM judges without the network: read a provider's response, read the verdict, count votes."""
