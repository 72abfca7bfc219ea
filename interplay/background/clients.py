"""A provider's model on an HTTP client of ours, with pydantic-ai's time-outs and limits, whose streams are gathered."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx2
from pydantic_ai.models import Model, create_async_httpx2_client, infer_model
from pydantic_ai.providers import infer_provider, infer_provider_class

from interplay.background.gathered import gathering

if TYPE_CHECKING:
    from pydantic_ai.providers import Provider

# What pydantic-ai's own client of Google has; all others have its default.
GOOGLE_TIMEOUT = httpx2.Timeout(1_200.0, connect=5.0)

Source = Model | str | Callable[[httpx2.AsyncClient], Model]


def model_of(source: Source) -> tuple[Model, httpx2.AsyncClient | None]:
    """The model, and the client it speaks through if that is ours to close. Raises what pydantic-ai raises."""
    if isinstance(source, Model):
        return source, None
    if callable(source):
        http = gathering(create_async_httpx2_client())
        return source(http), http
    made: list[httpx2.AsyncClient] = []

    def provider(name: str) -> Provider[Any]:
        if name.startswith("gateway/") or not takes_client(name):
            return infer_provider(name)
        http = create_async_httpx2_client(timeout=GOOGLE_TIMEOUT) if "google" in name else create_async_httpx2_client()
        made.append(gathering(http))
        return infer_provider_class(name)(http_client=http)  # type: ignore[call-arg]

    model = infer_model(source, provider)
    return model, made[0] if made else None


def takes_client(name: str) -> bool:
    """Whether this provider of pydantic-ai's can be given a client of httpx2; some SDKs want another one."""
    try:
        hint = typing.get_type_hints(infer_provider_class(name).__init__).get("http_client")
    except NameError:
        return False  # the type is not there at run time
    return httpx2.AsyncClient in typing.get_args(hint)
