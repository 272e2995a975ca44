"""Embeds texts for embedders that are not in the database, beside the jobs of validators."""
