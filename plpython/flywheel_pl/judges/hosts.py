"""Where a model is called, and who may get a key: endpoints one was told to trust, and no others.

Models are rows of the database, and a role that may create models must not be able to have a
worker's key mailed to an address of its choice. So the worker has a list of its own.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

# Stricter than a URL may be. There is no userinfo, no backslash, no space: nothing about which two
# parsers could disagree where the host ends.
_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[a-z0-9._~%/:!$&'()*+,;=-]*)?",
    re.IGNORECASE,
)
_ENTRY = re.compile(
    r"(?:(?P<scheme>https?)://)?"
    r"(?P<host>[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?/?",
    re.IGNORECASE,
)
_KEY_NAME = re.compile(r"FLYWHEEL_KEY_[A-Za-z0-9_]+")
# Visible ASCII, without what JSON would escape: a log could not find it again.
_KEY = re.compile(r"[!#-\[\]-~]+")
# Local servers are given words such as "none" for a key. Those are no secrets, and blotting them
# out would spoil texts.
_SECRET_LENGTH = 10
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an URL leads."""

    scheme: str
    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether nothing leaves this machine."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False


def origin_of(base_url: str) -> Origin | None:
    """Where a base URL leads; None if it is not one we would call."""
    found = _URL.fullmatch(base_url)
    if found is None:
        return None
    scheme = found["scheme"].lower()
    port = int(found["port"]) if found["port"] else _DEFAULT_PORTS[scheme]
    return Origin(scheme, found["host"].lower(), port) if 0 < port < 65536 else None


@dataclass(frozen=True, slots=True)
class _Entry:
    scheme: str | None
    host: str
    port: int | None

    def allows(self, origin: Origin) -> bool:
        return (
            self.host == origin.host
            and self.port in (None, origin.port)
            and self.scheme in (None, origin.scheme)
        )


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """The endpoints that may be called; `how` tells how one more is allowed, {} being the host."""

    entries: tuple[_Entry, ...] = ()
    how: str = "allow it with --allow-host {}"

    @classmethod
    def parse(cls, texts: Iterable[str], how: str = how) -> AllowedHosts:
        """Entries are `host` or `host:port`; `http://host` allows a call without TLS.

        Raises:
            ValueError: an entry is none of these.
        """
        return cls(tuple(_entry(text.strip()) for text in texts if text.strip()), how)

    def why_refused(self, base_url: str) -> str | None:
        """Why a base URL must not be called; None if it may be."""
        origin = origin_of(base_url)
        if origin is None:
            return (
                "its base_url is not an http or https URL of a host, a port and a path alone:"
                " no user, no query"
            )
        allowing = [entry for entry in self.entries if entry.allows(origin)]
        if not allowing:
            return (
                f"the host {origin.host}:{origin.port} is not allowed:"
                f" {self.how.format(origin.host)}"
            )
        is_plain = origin.scheme == "http" and not origin.is_loopback
        if is_plain and all(entry.scheme is None for entry in allowing):
            return (
                f"its base_url sends keys and texts to {origin.host} without TLS:"
                f" use https, or {self.how.format(f'http://{origin.host}')}"
            )
        return None


def _entry(text: str) -> _Entry:
    found = _ENTRY.fullmatch(text)
    port = int(found["port"]) if found is not None and found["port"] else None
    if found is None or (port is not None and not 0 < port < 65536):
        raise ValueError(
            f"{text} is not a host: write host, host:port or http://host:port,"
            " each host by itself, no wildcards"
        )
    scheme = found["scheme"].lower() if found["scheme"] else None
    return _Entry(scheme, found["host"].lower(), port)


def why_no_key(name: str | None, environ: Mapping[str, str]) -> str | None:
    """Why the key of a model cannot be had; None if it can, or if the model needs none."""
    if name is None:
        return None
    if _KEY_NAME.fullmatch(name) is None:
        return f"its api_key_env {name} does not start with FLYWHEEL_KEY_"
    value = environ.get(name, "").strip()
    if not value:
        return f"the variable {name} is not set in the environment of the worker"
    if _KEY.fullmatch(value) is None:
        return f"the variable {name} holds characters that no key has"
    return None


def key_of(name: str | None, environ: Mapping[str, str]) -> str | None:
    """The key of a model, at this moment; None without one."""
    if name is None or why_no_key(name, environ) is not None:
        return None
    return environ[name].strip()


def without_key(text: str, key: str | None) -> str:
    """A text in which the key is replaced by ***."""
    return text if key is None or len(key) < _SECRET_LENGTH else text.replace(key, "***")


def secrets(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Every key in the environment, the longest first: what no log may hold."""
    found = {
        value.strip() for name, value in environ.items() if _KEY_NAME.fullmatch(name) is not None
    }
    return tuple(
        sorted((value for value in found if len(value) >= _SECRET_LENGTH), key=len, reverse=True)
    )


def key_header(provider: str, key: str) -> tuple[str, str]:
    """The header that carries a key."""
    return ("api-key", key) if provider == "azure" else ("Authorization", f"Bearer {key}")


def path_below(
    provider: str,
    base_url: str,
    api_version: str | None,
    body: Mapping[str, Any],
    what: str = "/chat/completions",
) -> str:
    """What comes after a base URL, the query included, to ask for a completion or for vectors."""
    if provider != "azure":
        return what
    version = f"?api-version={quote(api_version or '', safe='')}"
    if "/deployments/" in base_url:
        return f"{what}{version}"
    prefix = "" if base_url.rstrip("/").endswith("/openai") else "/openai"
    deployment = quote(str(body.get("model", "")), safe="")
    return f"{prefix}/deployments/{deployment}{what}{version}"


def path_of(
    provider: str,
    base_url: str,
    api_version: str | None,
    body: Mapping[str, Any],
    what: str = "/chat/completions",
) -> str:
    """The same as a path on its host."""
    found = _URL.fullmatch(base_url)
    above = (found["path"] or "") if found is not None else ""
    return above.rstrip("/") + path_below(provider, base_url, api_version, body, what)
