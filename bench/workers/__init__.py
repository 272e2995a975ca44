"""The processes that drain a queue in the figures: ours, a plain client's, and those of others."""
