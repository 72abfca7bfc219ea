"""What an agent may spend: its spec's budget and policy, put before the gateway's own policy and ledger.

`policy: careful` is `[policy.agents.careful]` of the gateway's config file (INTERPLAY_GATEWAY). `budget: 5/day` is an
amount of the agent's own; any other budget is the name of a virtual key, whose budget all who name it share.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakKeyDictionary

from interplay.agents.checks import AMOUNT
from interplay.background.choose import choose, decide
from interplay.core.types import BadInput, InterplayError, Missing
from interplay.gateway.contract import Caller
from interplay.gateway.foreground import CONFIG, KEY
from interplay.gateway.providers import did_you_mean

if TYPE_CHECKING:
    from interplay.agents.spec import AgentSpec
    from interplay.background.base import Background
    from interplay.gateway.gateway import Gateway

ROUTE = "route/"
NEEDS = 'budgets, policies and routes need: pip install "interplay[gateway]"'


def governed(spec: AgentSpec, env: Mapping[str, str] | None = None) -> bool:
    """Whether this agent's models are paid for through the gateway: it names a budget, a policy or a route, or the
    operator has a gateway."""
    env = os.environ if env is None else env
    models = (spec.models.background, spec.models.vision, spec.models.summary)
    return bool(spec.budget or spec.policy or env.get(CONFIG) or any(slot.startswith(ROUTE) for slot in models))


def check(spec: AgentSpec, env: Mapping[str, str] | None = None) -> None:
    """What can be told of a spec's policy without opening the ledger. Raises BadInput.

    Where no gateway is configured nothing is known yet: a session says it.
    """
    env = os.environ if env is None else env
    if (spec.policy or spec.budget) and env.get(CONFIG):
        try:
            from interplay.gateway import config
            from interplay.gateway.policy.config import check as sections
        except ImportError as error:
            raise Missing(NEEDS) from error
        limits_of(spec, config.load(Path(env[CONFIG]), check=sections).sections)


def limits_of(spec: AgentSpec, sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """The limits of this agent as `[policy.agents.NAME]` would have them; None if its spec adds none to the config's.

    sections: of the gateway's config file. Raises BadInput for a policy that is not there.
    """
    agents: Mapping[str, Any] = sections.get("policy", {}).get("agents", {})
    if spec.policy and spec.policy not in agents:
        raise BadInput(
            f"the agent {spec.name!r}: policy: the gateway has no [policy.agents.{spec.policy}]"
            f"{did_you_mean(spec.policy, agents)}; put it into the file that {CONFIG} names"
        )
    if spec.policy and spec.policy != spec.name and spec.name in agents:
        raise BadInput(
            f"the agent {spec.name!r}: policy: the gateway has limits for this agent already, and no spec puts others "
            f"in their place; leave out `policy`, or take [policy.agents.{spec.name}] out of the gateway's config file"
        )
    limits = dict(agents.get(spec.policy or spec.name, {}))
    if (amount := AMOUNT.fullmatch(spec.budget)) is not None:
        own = {"usd": float(amount[1]), "per": amount[2]}
        return limits | {"budgets": [*limits.get("budgets", ()), own]}
    return limits if spec.policy else None


def mind_of(
    spec: AgentSpec,
    slot: str,
    allowance: Allowance | None,
    env: Mapping[str, str] | None = None,
    *,
    shown: bool = False,
) -> Background:
    """The model of an agent's slot: a provider's goes through the gateway where there is an allowance, all others cost
    nothing. Blocks while a model is imported. Raises as `choose` and `PaidBackground` do, and BadInput for a server
    that the gateway does not know, if what the agent spends is limited."""
    choice = decide(slot, env)
    if allowance is not None and choice.kind in ("provider", "route"):
        try:
            from interplay.agents.paid import PaidBackground
        except ImportError as error:
            raise Missing('providers need pydantic-ai; get it with: pip install "interplay[background]"') from error
        return PaidBackground(choice.model, allowance, shown=shown)
    if choice.kind == "compatible" and (spec.budget or spec.policy):
        raise BadInput(
            f"the agent {spec.name!r} has a budget or a policy, and {choice.url} ({choice.why}) is no model of the "
            "gateway: make it one under [providers] in the gateway's config file"
        )
    return choose(slot, env, shown=shown)


@dataclass(slots=True)
class _House:
    """One open gateway of this process, for as long as a session uses it. Its config file is read when it opens."""

    gateway: Gateway
    using: int = 0
    limits: dict[str, dict[str, Any]] = field(default_factory=dict)

    def admit(self, agent: str, limits: dict[str, Any] | None) -> None:
        """From now on these limits count for that agent."""
        before = dict(self.limits)
        self.limits.pop(agent, None)
        self.limits |= {agent: limits} if limits is not None else {}
        if self.limits != before:
            sections = self.gateway.config.sections
            policy = dict(sections.get("policy", {}))
            policy["agents"] = {**policy.get("agents", {}), **self.limits}
            self.gateway.policy.reload({**sections, "policy": policy})


_HOUSES: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Path | None, _House]] = WeakKeyDictionary()
_LOCKS: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


class Allowance:
    """The gateway as one agent has it for one user in one session: `async with await Allowance.open(...) as it`.

    caller: whom everything is put down to. The gateway stays open while one of these is, or something made with it.
    """

    def __init__(self, gateway: Gateway, caller: Caller, place: Path | None) -> None:
        self.gateway, self.caller = gateway, caller
        self._place = place
        self._held = 1

    @classmethod
    async def open(
        cls, spec: AgentSpec, user: str, session: str = "", *, env: Mapping[str, str] | None = None
    ) -> Allowance:
        """Raises BadInput if the spec names a budget or a policy that is not there, Denied if policy wants a key and
        INTERPLAY_KEY has none, Missing without the gateway's extra."""
        env = os.environ if env is None else env
        place = Path(env[CONFIG]) if env.get(CONFIG) else None
        house = await _enter(place)
        try:
            limits = limits_of(spec, house.gateway.config.sections)
            caller = await _caller(house.gateway, spec, user, session, env)
            house.admit(spec.name, limits)
            return cls(house.gateway, caller, place)
        except BaseException:
            await _leave(place)
            raise

    def hold(self) -> Self:
        """One more that uses it and will close it."""
        self._held += 1
        return self

    async def close(self) -> None:
        """Of the last one: what was spent is in the database when this returns."""
        self._held -= 1
        if self._held == 0:
            await _leave(self._place)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def _caller(gateway: Gateway, spec: AgentSpec, user: str, session: str, env: Mapping[str, str]) -> Caller:
    policy: Any = gateway.policy  # a Gate
    caller: Caller = await policy.identify(env.get(KEY) or None, agent=spec.name, user=user, session=session)
    if (spec.budget or spec.policy) and caller.agent != spec.name:
        raise BadInput(
            f"the agent {spec.name!r}: {KEY} is a key of the agent {caller.agent!r}, and what {spec.name!r} may spend "
            "would not count; use another key, or leave out `budget` and `policy`"
        )
    if not spec.budget or AMOUNT.fullmatch(spec.budget):
        return caller
    # Whoever may call without a key, or has one, is known by now: the name says only whose budget pays.
    key = next((key for key in await policy.keys.all() if key.name == spec.budget and key.revoked is None), None)
    if key is None:
        raise BadInput(
            f"the agent {spec.name!r}: budget: the gateway has no key {spec.budget!r}; make one with "
            f"`interplay gateway keys create {spec.budget} --budget 5/day`, or write an amount such as 5/day"
        )
    if caller.key_id not in ("", key.id):
        raise BadInput(f"the agent {spec.name!r}: budget: {KEY} is another key than {spec.budget!r}; use one of them")
    for what, fixed, ours in (("agent", key.section.agent, caller.agent), ("user", key.section.user, caller.user)):
        if fixed not in ("", ours):
            raise BadInput(f"the agent {spec.name!r}: budget: the key {key.name!r} is for the {what} {fixed!r} alone")
    return replace(caller, key_id=key.id)


async def _enter(place: Path | None) -> _House:
    try:
        from interplay.gateway.gateway import Gateway
    except ImportError as error:
        raise Missing(NEEDS) from error
    loop = asyncio.get_running_loop()
    houses = _HOUSES.setdefault(loop, {})
    async with _LOCKS.setdefault(loop, asyncio.Lock()):
        if place not in houses:
            # Not watched: a file taken over in between would drop what the specs of open sessions say.
            houses[place] = _House(await Gateway.open(place, watch=False))
        houses[place].using += 1
        return houses[place]


async def _leave(place: Path | None) -> None:
    loop = asyncio.get_running_loop()
    async with _LOCKS[loop]:
        house = _HOUSES[loop][place]
        house.using -= 1
        if house.using == 0:
            del _HOUSES[loop][place]
        with contextlib.suppress(InterplayError):  # the database is away: the write-ahead slots have it all
            await house.gateway.close() if house.using == 0 else await house.gateway.ledger.flush()  # type: ignore[attr-defined]


def spoken(message: str) -> str:
    """A denial's message as a voice can read it."""
    return re.sub(r"\$(\d[\d.]*)", r"\1 dollars", message).replace("'", "").rstrip(".")
