"""Models behind an address: asked in batches over HTTP, with patience for what passes and one sentence for what does not."""

import hashlib
import json
import math
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException, IncompleteRead
from typing import Any

import numpy as np

from ..core.errors import CannotComplete, ModelError, UsageError
from ..core.tree import Tree
from .function import FunctionModel, as_array

LOCAL = ("127.0.0.1", "::1", "localhost")
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Answers after which the same may be asked again."""
LARGEST = 256 * 2**20
"""Bytes of an answer that are read."""
KEPT = 200_000
"""Rows whose answers are remembered: work that was stopped goes on where it was."""
LONGEST_WAIT = 30.0


def endpoint_model(
    url: str, *, batch_size: int = 32, timeout: float = 30.0, retries: int = 3, backoff: float = 0.5, max_calls: int = 10_000, token_env: str = "", send: str = "inputs",
    read: str = "outputs", name: str | None = None, spec: str = "", **settings: Any,
) -> "EndpointModel":  # fmt: skip
    """The model behind `url`, which is asked by POST {"inputs": [row, ...]} and answers {"outputs": [numbers or {label: number}, ...]}, one a row.

    `batch_size` rows go into a call; a call may take `timeout` seconds and is tried again `retries` times, after `backoff`, then twice that, and so
    on, where the failure may pass (no connection, time, 429, 5xx). After `max_calls` calls, retries among them, the work stops and says so; what was
    answered is remembered, and asking again goes on from there. `send` and `read` are the names around the rows, dotted where they lie
    deeper ("data.rows"), "" for the rows alone. `token_env` names the variable that holds a bearer token: it is sent, and kept nowhere.
    """
    endpoint = Endpoint(url, batch_size, timeout, retries, backoff, max_calls, token_env, send, read)
    return EndpointModel(endpoint, name=name or endpoint.shown, spec=spec or endpoint.shown, **settings)


class EndpointModel(FunctionModel):
    """What lies behind an address. Its batch is the planner's chunk."""

    def __init__(self, endpoint: "Endpoint", takes: str = "auto", **settings: Any) -> None:
        super().__init__(endpoint, takes=takes, **settings)
        self.chunk = endpoint.batch_size

    def call(self, args: tuple[Any, ...], kwargs: Mapping[str, Tree]) -> Any:
        """Rows as JSON has them, whatever they were."""
        if len(args) != 1 and self.parts is None:
            raise ModelError(f"{self.name} is asked about one input; got {len(args) + len(kwargs)}.")
        return super().call(args, kwargs)


@dataclass(frozen=True)
class Endpoint:
    """A function on rows that asks an address."""

    url: str
    batch_size: int = 32
    timeout: float = 30.0
    retries: int = 3
    backoff: float = 0.5
    max_calls: int = 10_000
    token_env: str = ""
    send: str = "inputs"
    read: str = "outputs"
    _known: dict[bytes, Any] = field(default_factory=dict, repr=False, compare=False)
    _calls: list[int] = field(default_factory=lambda: [0], repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"An endpoint needs an address http://host/path or https://host/path; got {self.shown!r}.")
        if parts.username or parts.password:
            raise UsageError(f"An address holds no password: {self.shown} was given one. Put a token into a variable and name it: token_env='MY_TOKEN'.")
        for name, least in (("batch_size", 1), ("retries", 0), ("backoff", 0), ("max_calls", 1), ("timeout", 0.001)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= least or math.isinf(value):
                raise UsageError(f"An endpoint needs {name} of at least {least}; got {value!r}.")
        if self.token_env:
            self._token()

    @property
    def shown(self) -> str:
        """The address as it may be shown: without a query or a password."""
        parts = urllib.parse.urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"

    @property
    def calls(self) -> int:
        """Calls made so far, retries among them."""
        return self._calls[0]

    def __call__(self, rows: Any) -> list[Any]:
        """One answer a row; rows that were answered are not asked again."""
        plain = _plain(rows)
        keys = [hashlib.blake2b(json.dumps(r).encode(), digest_size=16).digest() for r in plain]
        fresh = {k: r for k, r in zip(keys, plain, strict=True) if k not in self._known}
        answered: dict[bytes, Any] = {}
        waiting = list(fresh)
        for i in range(0, len(waiting), self.batch_size):
            some = waiting[i : i + self.batch_size]
            told = dict(zip(some, self._ask([fresh[k] for k in some]), strict=True))
            answered |= told
            if len(self._known) + len(told) > KEPT:
                self._known.clear()
            self._known.update(told)
        return [answered[k] if k in answered else self._known[k] for k in keys]

    # -- one call ----------------------------------------------------------------------------------------------------

    def _ask(self, rows: Sequence[Any]) -> list[Any]:
        body = json.dumps(_wrapped(self.send, list(rows)), allow_nan=False).encode()
        answer = self._tried(body)
        found = answer
        for key in filter(None, self.read.split(".")):
            if not isinstance(found, Mapping) or key not in found:
                keys = ", ".join(map(repr, list(found)[:5])) if isinstance(found, Mapping) else f"a {type(found).__name__}"
                raise ModelError(f"{self.shown} needs to answer with {self.read!r}; it answered with {keys}. Name the right one: read=...")
            found = found[key]
        if not isinstance(found, list) or len(found) != len(rows):
            got = f"{len(found)}" if isinstance(found, list) else f"a {type(found).__name__}"
            raise ModelError(f"{self.shown} needs to give one answer for each of {len(rows)} rows; it gave {got}.")
        return found

    def _tried(self, body: bytes) -> Any:
        """The answer, asked again where the failure may pass."""
        for attempt in range(self.retries + 1):
            if self.calls >= self.max_calls:
                raise CannotComplete(f"{self.shown} may be asked {self.max_calls:,} times (max_calls), and was. What it answered is kept; raise max_calls and ask again to go on.")
            self._calls[0] += 1
            why, wait = "", self.backoff * 2**attempt
            try:
                return self._once(body)
            except urllib.error.HTTPError as e:
                with e:
                    why = f"answered {e.code} {e.reason}{self._excerpt(e)}"
                if e.code not in PASSING:
                    raise ModelError(f"{self.shown} {why}. Check the address, the shape of the rows and the token.") from None
                wait = max(wait, _seconds(e.headers.get("Retry-After")))
            except TimeoutError:
                why = f"gave no answer within {self.timeout:g} seconds"
            except (urllib.error.URLError, HTTPException, OSError) as e:
                reason = getattr(e, "reason", e)
                slow = isinstance(reason, TimeoutError)
                why = f"gave no answer within {self.timeout:g} seconds" if slow else f"could not be reached: {str(reason).strip() or type(reason).__name__}"
            if attempt < self.retries:
                time.sleep(min(wait, LONGEST_WAIT))
        times = f"{self.retries + 1} times in a row" if self.retries else "once"
        raise CannotComplete(f"{self.shown} {why}, {times}. What it answered before is kept; ask again when it is well, or raise timeout and retries.")

    def _once(self, body: bytes) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "pellucid"}
        if self.token_env:
            headers["Authorization"] = f"Bearer {self._token()}"
        until = time.monotonic() + self.timeout
        request = urllib.request.Request(self.url, body, headers, method="POST")  # noqa: S310 - http and https alone, checked when the endpoint was made
        with self._opener().open(request, timeout=self.timeout) as response:
            raw = b"".join(_read(response, until, self.shown))
        try:
            return json.loads(raw)
        except (ValueError, RecursionError):
            raise ModelError(f"{self.shown} needs to answer in JSON; it answered {raw[:60].decode(errors='replace')!r}.") from None

    def _opener(self) -> urllib.request.OpenerDirector:
        """Opens without following: an answer that points elsewhere would take the rows and the token there."""
        local = urllib.parse.urlsplit(self.url).hostname in LOCAL
        return urllib.request.build_opener(_Stay(self.shown), *([urllib.request.ProxyHandler({})] if local else []))

    def _token(self) -> str:
        token = os.environ.get(self.token_env, "")
        if not token:
            raise UsageError(f"The variable {self.token_env!r} needs to hold the token for {self.shown}; it is empty. Set it in the shell that runs this.")
        if not (token.isascii() and token.isprintable() and " " not in token):
            raise UsageError(f"The variable {self.token_env!r} needs to hold a token of plain characters without spaces; it holds others.")
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme != "https" and parts.hostname not in LOCAL:
            raise UsageError(f"A token goes over https alone, or to this machine; got {self.shown}. Use https://.")
        return token

    def _excerpt(self, e: urllib.error.HTTPError) -> str:
        """The beginning of what the server says, without the token should it echo that."""
        try:
            text = " ".join(e.read(2000).decode(errors="replace").split())
        except (OSError, HTTPException, ValueError):
            return ""
        if self.token_env:
            text = text.replace(self._token(), "…")
        return f" ({text[:120]})" if text and not text.startswith("<") else ""


class _Stay(urllib.request.HTTPRedirectHandler):
    """Refuses to be sent elsewhere."""

    def __init__(self, shown: str) -> None:
        self.shown = shown

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        parts = urllib.parse.urlsplit(newurl)
        fp.close()
        raise ModelError(f"{self.shown} sends its callers on to {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}, where Pellucid does not follow. Give that address if you trust it.")


def _read(response: Any, until: float, shown: str) -> Iterator[bytes]:
    """The answer piece by piece: one that drips has its time too."""
    size = 0
    while piece := response.read1(2**16):
        size += len(piece)
        if size > LARGEST:
            raise ModelError(f"{shown} gave an answer of more than {LARGEST // 2**20} MiB. Let it answer with numbers alone.")
        if time.monotonic() > until:
            raise TimeoutError
        yield piece
    if getattr(response, "length", None):
        raise IncompleteRead(b"", response.length)


def _plain(rows: Any) -> list[Any]:
    """Rows as JSON has them."""
    rows = as_array(rows)
    if isinstance(rows, np.ndarray):
        return list(rows.tolist())
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):
        table = rows.astype(object)
        return [{str(k): _cell(v) for k, v in r.items()} for r in table.where(table.notna(), None).to_dict("records")]
    return list(rows)


def _cell(v: Any) -> Any:
    return v.item() if hasattr(v, "item") else v if v is None or isinstance(v, (str, int, float, bool)) else str(v)


def _wrapped(send: str, rows: list[Any]) -> Any:
    found: Any = rows
    for key in reversed([k for k in send.split(".") if k]):
        found = {key: found}
    return found


def _seconds(told: str | None) -> float:
    """How long a server asks to wait, where it says so in seconds."""
    return float(told) if told and told.isdigit() else 0.0
