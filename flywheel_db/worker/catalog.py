"""The models of the database, and which of them this worker serves."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flywheel_pl.judges.hosts import AllowedHosts, why_no_key


@dataclass(frozen=True, slots=True)
class Model:
    """A row of flywheel.models, as far as calling it goes."""

    name: str
    base_url: str
    provider: str
    api_version: str | None
    api_key_env: str | None
    timeout_seconds: float
    max_concurrency: int | None


class Catalog:
    """Models that are served, and why the others are not."""

    def __init__(self, hosts: AllowedHosts, environ: Mapping[str, str] | None = None) -> None:
        self.served: dict[str, Model] = {}
        self.refused: dict[str, str] = {}
        self._hosts = hosts
        self._environ = os.environ if environ is None else environ

    def update(self, models: Iterable[Model]) -> dict[str, str]:
        """Take the present rows; returns what is refused now and was not before."""
        served: dict[str, Model] = {}
        refused: dict[str, str] = {}
        for model in models:
            reason = self._why_refused(model)
            if reason is None:
                served[model.name] = model
            else:
                refused[model.name] = reason
        news = {name: why for name, why in refused.items() if self.refused.get(name) != why}
        self.served, self.refused = served, refused
        return news

    def _why_refused(self, model: Model) -> str | None:
        return self._hosts.why_refused(model.base_url) or why_no_key(
            model.api_key_env, self._environ
        )
