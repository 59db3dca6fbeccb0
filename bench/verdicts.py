"""How often is the verdict right? Planted good and bad maps on photographs, a known shortcut, tables, a regression and texts.

    python bench/verdicts.py                    # every domain; prints three-way rates with 95 % intervals over rows
    python bench/verdicts.py photos texts --facts facts.json
    python bench/verdicts.py "photos and crops"     # twice as many rows of photographs

Good maps: methods that answer for the model. Bad maps, each known to be wrong: the good map shuffled, negated or constant, another input's map, the map of a network
with permuted weights, a far class's map, edges, the centre, or what only depends on the input (size of cells, position and length of words, noise),
and methods blind to the class. A bad map that happens to be a near-twin of the good one (rank correlation above .8) is left out: it is not wrong.
Some methods and inputs are set apart, and their rates printed beside those of all.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import pellucid as pel
from pellucid.core import catalogue
from pellucid.core.agreement import agreement
from pellucid.core.question import Question, ask
from pellucid.metrics._controls import controls, drawn
from pellucid.metrics._evidence import facts_of, joined
from pellucid.metrics._permuted import permuted
from pellucid.metrics._pool import Pool
from pellucid.metrics._subject import Subject, subject
from pellucid.metrics._verdict import Cuts, Facts, judge, judge_rows, open_to_doubt
from pellucid.metrics.class_dependence import ClassDependence, far_classes
from pellucid.metrics.convergence import Convergence
from pellucid.metrics.mask_fidelity import MaskFidelity
from pellucid.run.explain import _posed

VERDICTS = ("supported", "doubtful", "contradicted")
TWIN = 0.8


@dataclass(frozen=True)
class Case:
    """One map on one row."""

    domain: str
    row: str
    group: str
    name: str
    good: bool
    held: bool
    facts: dict[str, Any]


@dataclass(frozen=True)
class Domain:
    """Rows of a model with methods that should explain it; `blind` methods are planted bad. `held` rows and methods are set apart."""

    name: str
    model: Any
    x: Any
    groups: list[str]
    good: dict[str, dict[str, Any]]
    held_methods: tuple[str, ...] = ()
    held_groups: tuple[str, ...] = ()
    blind: tuple[str, ...] = ()
    target: Any = None
    baseline: Any = 0
    masker: Any = None
    other: Any = None
    """The same with weights permuted, where the model is no network of its own."""


# ---------------------------------------------------------------- the planted cases


def cases(d: Domain) -> Iterator[Case]:
    """Every good and bad map of a domain, with the numbers that the rule sees."""
    for group in dict.fromkeys(d.groups):
        rows = [i for i, g in enumerate(d.groups) if g == group]
        yield from _group(d, group, rows)
        sys.stderr.write(".")
        sys.stderr.flush()


def _group(d: Domain, group: str, rows: list[int]) -> Iterator[Case]:
    q = question(d, d.model, rows)
    pools: dict[Any, Pool] = {}
    good: dict[str, Subject] = {}
    for name, settings in d.good.items():
        method = catalogue.make("methods", name, **settings)
        try:
            good[name] = subject(q, method(q), method)
        except pel.NotApplicable as why:
            sys.stderr.write(f"[{name}: {why}]")
    for name, s in good.items():
        yield from scored(d, group, name, s, pools, True)
    first = next(iter(good.values()))
    for name in d.blind:
        method = catalogue.make("methods", name)
        yield from scored(d, group, name, subject(q, method(q), method), pools, False)
    for name, maps, source in bad(d, q, good, rows):
        s = elsewhere(first, maps, source)
        yield from scored(d, group, name, s, pools, False, [v.maps() for v in good.values()])
    q.close()


def question(d: Domain, model: Any, rows: list[int]) -> Question:
    """Some rows, asked about the model's own answers (or the domain's target)."""
    x = [d.x[i] for i in rows] if isinstance(d.x, list) else d.x[rows]
    wrapped, x, start = _posed(model if isinstance(model, pel.Model) else pel.wrap(model), x, d.baseline if d.masker is None else None, d.masker)
    q = ask(wrapped, x, d.target, None, start, [f"{d.name} {i}" for i in rows])
    return q.with_target(q.resolved_target())


def bad(d: Domain, q: Question, good: dict[str, Subject], rows: list[int]) -> Iterator[tuple[str, Tensor, Subject]]:
    """(name, maps on the grid, the subject whose grid it is) of maps that are known to be wrong."""
    gen = torch.Generator().manual_seed(7)
    for name in list(good)[:2]:
        s = good[name]
        m = s.maps()
        flat = m.flatten(1)
        yield f"shuffled {name}", torch.stack([r[torch.randperm(len(r), generator=gen)] for r in flat]).view_as(m), s
        yield f"negated {name}", -m, s
        yield "constant", torch.ones_like(m), s
        away = other_inputs(d, name, rows)
        if away is not None and away.shape == m.shape:
            yield f"another input's {name}", away, s
        net = other_network(d, q, s)
        if net is not None:
            yield f"permuted network's {name}", net, s
        far = far_class(q, s)
        if far is not None:
            yield f"far class's {name}", far, s
    first = next(iter(good.values()))
    for name, maps in {"random": drawn(q, first.grid), **controls(q, first.grid)}.items():
        yield f"{name} alone", maps, first


def other_inputs(d: Domain, name: str, rows: list[int]) -> Tensor | None:
    """The same method's map of rows from the next group, about this row's class where classes are asked."""
    names = list(dict.fromkeys(d.groups))
    after = names[(names.index(d.groups[rows[0]]) + 1) % len(names)]
    them = [i for i, g in enumerate(d.groups) if g == after]
    them = [them[k % len(them)] for k in range(len(rows))]
    q = question(d, d.model, them)
    method = catalogue.make("methods", name, **d.good[name])
    try:
        return subject(q, method(q), method).maps()
    finally:
        q.close()


def other_network(d: Domain, q: Question, s: Subject) -> Tensor | None:
    """The method on a network that knows nothing."""
    module = getattr(q.model, "module", None)
    if d.other is None and not isinstance(module, nn.Module):
        return None
    if d.other is not None:
        asked = question(d, d.other, [int(str(i).rpartition(" ")[2]) for i in q.ids]).with_target(q.resolved_target())
        return subject(asked, s.method(asked), s.method).maps()
    other = pel.wrap(permuted(module, q.x, seed=11), labels=q.model.labels)
    asked = q.with_model(other)
    return subject(asked, s.method(asked), s.method).maps()


def far_class(q: Question, s: Subject) -> Tensor | None:
    far = far_classes(s, 1.0)
    if any(c is None for c in far):
        return None
    asked = q.with_target(torch.tensor(far))
    return subject(asked, s.method(asked), s.method).maps()


def elsewhere(like: Subject, maps: Tensor, source: Subject) -> Subject:
    """A bare map: no method can be asked again."""
    v = like.e.values
    values = maps[:, None] if maps.ndim == 3 else maps if v.ndim == 2 else maps.unsqueeze(3 - source.grid.axis).expand_as(v) / v.shape[3 - source.grid.axis]
    return Subject(like.q, dataclasses.replace(like.e, values=values, signed=True, convergence=None, error=None), None, source.grid)


def scored(d: Domain, group: str, name: str, s: Subject, pools: dict[Any, Pool], good: bool, twins: list[Tensor] | None = None) -> Iterator[Case]:
    """Each row's facts, with as many masks as the rule would ask for."""
    cuts = Cuts()
    pool = pools.setdefault(s.grid, Pool(s.q, s.grid)) if s.grid not in pools else pools[s.grid]
    changed, steps = ClassDependence().read(s, cuts), Convergence().read(s, cuts)
    before = [facts_of(s, i, changed, steps) for i in range(s.size)]
    found, _ = MaskFidelity().measure(s, pool, lambda i, t: open_to_doubt(joined(before[i], t), cuts))
    for i, (f, t) in enumerate(zip(before, found, strict=True)):
        if twins and name != "constant" and any(float(agreement(m[i : i + 1], s.maps()[i : i + 1])) > TWIN for m in twins if m.shape == s.maps().shape):
            continue
        held = name.split("'s ")[-1].removeprefix("shuffled ").removeprefix("negated ") in d.held_methods or group in d.held_groups
        yield Case(d.name, str(s.q.ids[i]), group, name, good, held, dataclasses.asdict(joined(f, t)))


# ---------------------------------------------------------------- domains


def photos(crops_too: bool = False) -> Domain:
    """EfficientNet-Lite0 on photographs that come with scikit-image and scikit-learn: the middle, and with `crops_too` a crop beside it."""
    from pellucid.modalities.image import open_image

    model = pel.load("efficientnet-lite0")
    names = ("coffee", "rocket", "flower", "chelsea", "astronaut", "china")
    crops, groups = [], []
    for name in names:
        image = open_image(f"sample:{name}")
        w, h = image.size
        side = min(w, h)
        parts = (((w - side) // 2, (h - side) // 2, side), (int((w - 0.8 * side) * 0.35), int((h - 0.8 * side) * 0.6), int(0.8 * side)))
        for left, top, size in parts if crops_too else parts[:1]:
            crops.append(model.preprocess(image.crop((left, top, left + size, top + size))))
            groups.append(name)
    good = {"integrated-gradients": {"steps": 24}, "grad-cam": {}, "layer-cam": {}, "hi-res-cam": {}}
    return Domain("photos", model, torch.cat(crops), groups, good, ("layer-cam", "hi-res-cam"), ("astronaut", "china"), ("guided-backprop", "deconvnet"))


def fitted(net: nn.Module, x: Tensor, y: Tensor, steps: int = 300, rate: float = 0.01) -> nn.Module:
    """A network trained on all rows."""
    loss = nn.CrossEntropyLoss() if y.dtype == torch.long else nn.MSELoss()
    optimizer = torch.optim.Adam(net.parameters(), lr=rate, weight_decay=1e-4)
    gen = torch.Generator().manual_seed(0)
    net.train()
    for _ in range(steps):
        rows = torch.randint(len(x), (64,), generator=gen)
        optimizer.zero_grad()
        out = net(x[rows])
        loss(out if y.dtype == torch.long else out[:, 0], y[rows]).backward()
        optimizer.step()
    return net.eval()


def shortcut() -> Domain:
    """Digits of 28 x 28 in which a small patch's quadrant decides the class, whatever the digit: the truth is known to be the patch."""
    from sklearn.datasets import load_digits

    x = torch.from_numpy(load_digits().images[:600]).float()[:, None] / 16
    x = nn.functional.interpolate(x, size=(28, 28), mode="bilinear") * 0.6
    gen = torch.Generator().manual_seed(0)
    y = torch.randint(4, (len(x),), generator=gen)
    for i, c in enumerate(y.tolist()):
        top, left = (c // 2) * 14 + int(torch.randint(3, 8, (), generator=gen)), (c % 2) * 14 + int(torch.randint(3, 8, (), generator=gen))
        x[i, 0, top : top + 5, left : left + 5] = 1.0
    net = nn.Sequential(nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(784, 4))
    net = fitted(net, x, y, 400, 0.003)
    sys.stderr.write(f"[shortcut: {float((net(x).argmax(1) == y).float().mean()):.2f} follow the patch]")
    good = {"integrated-gradients": {"steps": 32}, "occlusion": {"window": 5, "stride": 3}, "smooth-grad": {}}
    return Domain("shortcut", net, x[:24], [f"digit {i // 2}" for i in range(24)], good, ("occlusion",), tuple(f"digit {i}" for i in range(6, 12)))


def columns(name: str, load: str, outputs: int, wide: int) -> Domain:
    """A small network on a table of scikit-learn's, standardized, against the mean."""
    import sklearn.datasets

    data = getattr(sklearn.datasets, load)()
    x = torch.from_numpy(np.asarray(data.data)).float()
    x = (x - x.mean(0)) / x.std(0).clamp_min(1e-6)
    y = torch.from_numpy(data.target).long() if outputs > 1 else torch.from_numpy((data.target - data.target.mean()) / data.target.std()).float()
    torch.manual_seed(0)
    net = fitted(nn.Sequential(nn.Linear(x.shape[1], wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, outputs)), x, y)
    pick = torch.randperm(len(x), generator=torch.Generator().manual_seed(3))[:32]
    good = {"integrated-gradients": {"steps": 32}, "kernel-shap": {"budget": 400}, "permutation-shapley": {"budget": 400}, "input-x-gradient": {}}
    target = None if outputs > 1 else pel.Output()
    return Domain(name, net, x[pick], [f"row {i // 2}" for i in range(32)], good, ("permutation-shapley",), tuple(f"row {i}" for i in range(8, 16)), target=target)


_WORDS = {
    "praise": "superb wonderful moving brilliant charming delightful touching gripping", "blame": "dreadful boring clumsy tedious awful lifeless dull pointless",
    "sport": "match league striker goal stadium referee",
    "filler": "the film was a story about old people in town and it had music by an actor with some long scenes that came after dinner",
}
GOOD_WORDS, BAD_WORDS, SPORT, FILLER = (w.split() for w in _WORDS.values())


def texts() -> Domain:
    """A network of word embeddings and a convolution, trained on made-up reviews: praise, blame and sport are the classes, the rest is filler."""
    words = [*GOOD_WORDS, *BAD_WORDS, *SPORT, *dict.fromkeys(FILLER)]
    index = {w: i + 1 for i, w in enumerate(words)}
    gen = np.random.default_rng(0)
    made, y = [], []
    for i in range(900):
        kind = i % 3
        own = (GOOD_WORDS, BAD_WORDS, SPORT)[kind]
        text = list(gen.choice(FILLER, int(gen.integers(9, 15))))
        for w in gen.choice(own, int(gen.integers(2, 4)), replace=False):
            text.insert(int(gen.integers(len(text))), w)
        text.insert(int(gen.integers(len(text))), str(gen.choice([w for k, s in enumerate((GOOD_WORDS, BAD_WORDS, SPORT)) if k != kind for w in s])))
        made.append(" ".join(map(str, text)))
        y.append(kind)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.conv, self.out = nn.Embedding(len(words) + 1, 16, padding_idx=0), nn.Conv1d(16, 24, 3, padding=1), nn.Linear(24, 3)

        def forward(self, ids: Tensor) -> Tensor:
            return self.out(torch.relu(self.conv(self.embed(ids).mT)).amax(2))

    def encode(ts: list[str]) -> Tensor:
        rows = [[index.get(w, 0) for w in t.split()] or [0] for t in ts]
        wide = max(20, *map(len, rows))
        return torch.tensor([r + [0] * (wide - len(r)) for r in rows])

    torch.manual_seed(0)
    net = fitted(Net(), encode(made), torch.tensor(y), 300, 0.01)
    other = permuted(net, encode(made[:8]), seed=5)

    def reads(network: nn.Module) -> pel.Model:
        def classify(ts: list[str]) -> Tensor:
            with torch.no_grad():
                return network(encode(ts))

        return pel.wrap(classify, takes="texts")

    good = {"kernel-shap": {"budget": 300}, "feature-ablation": {}, "permutation-shapley": {"budget": 300}}
    groups = [f"text {i // 2}" for i in range(32)]
    return Domain("texts", reads(net), made[:32], groups, good, ("permutation-shapley",), tuple(f"text {i}" for i in range(8, 16)), masker=pel.TextMasker("word"), other=reads(other))


DOMAINS: dict[str, Callable[[], Domain]] = {
    "shortcut": shortcut, "two classes": lambda: columns("two classes", "load_breast_cancer", 2, 32), "digits table": lambda: columns("digits table", "load_digits", 10, 48),
    "regression": lambda: columns("regression", "load_diabetes", 1, 24), "texts": texts, "photos": photos, "photos and crops": lambda: photos(True),
}  # fmt: skip


# ---------------------------------------------------------------- rates


def judged(every: list[Case], cuts: Cuts) -> list[str]:
    return [judge(Facts(**c.facts), cuts).verdict for c in every]


def wilson(k: int, n: int) -> str:
    """A share with its 95 % interval (Wilson)."""
    if not n:
        return "      –         "
    p, z = k / n, 1.96
    mid, half = (p + z * z / 2 / n) / (1 + z * z / n), z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    return f"{p:4.0%} [{max(0, mid - half):3.0%}, {min(1, mid + half):4.0%}]"


def line(name: str, every: list[Case], cuts: Cuts) -> str:
    got = judged(every, cuts)
    return f"{name:<46} {len(got):>4}   " + "   ".join(wilson(got.count(v), len(got)) for v in VERDICTS)


def over_rows(every: list[Case], cuts: Cuts, size: int = 4) -> dict[bool, list[str]]:
    """The verdicts over `size` rows of different groups, of every kind of map."""
    by: dict[tuple[str, str, bool], dict[str, Case]] = defaultdict(dict)
    for c in every:
        by[c.domain, c.name, c.good].setdefault(c.group, c)
    out: dict[bool, list[str]] = {True: [], False: []}
    for (_, _, good), groups in by.items():
        kept = list(groups.values())
        starts = range(0, len(kept) - size + 1, size if len(kept) >= 2 * size else 1)
        for at in starts:
            part = kept[at : at + size]
            facts = [Facts(**c.facts) for c in part]
            out[good].append(judge_rows(facts, [judge(f, cuts) for f in facts], [c.group for c in part], cuts).verdict)
    return out


def told(every: list[Case], cuts: Cuts, names: bool) -> None:
    """The tables."""
    head = f"{'':<46} {'maps':>4}   " + "   ".join(f"{v:<16}" for v in VERDICTS)
    for domain in dict.fromkeys(c.domain for c in every):
        own = [c for c in every if c.domain == domain]
        print(f"\n{domain}\n{head}")
        for good in (True, False):
            word = "good" if good else "bad"
            print(line(f"  {word}", [c for c in own if c.good is good], cuts))
            print(line(f"    {word}, rows and methods set apart", [c for c in own if c.good is good and c.held], cuts))
            for name in dict.fromkeys(c.name for c in own if c.good is good) if names else ():
                print(line(f"      {name}", [c for c in own if c.name == name], cuts))
        rows = over_rows(own, cuts)
        for good, word in ((True, "good"), (False, "bad")):
            print(f"  {word + ', over four rows':<44} {len(rows[good]):>4}   " + "   ".join(wilson(rows[good].count(v), len(rows[good])) for v in VERDICTS))
    if len({c.domain for c in every}) > 1:
        print(f"\nall domains\n{head}")
        for good, word in ((True, "good"), (False, "bad")):
            print(line(f"  {word}", [c for c in every if c.good is good], cuts))
            print(line(f"    {word}, rows and methods set apart", [c for c in every if c.good is good and c.held], cuts))
        rows = over_rows(every, cuts)
        for good, word in ((True, "good"), (False, "bad")):
            print(f"  {word + ', over four rows':<44} {len(rows[good]):>4}   " + "   ".join(wilson(rows[good].count(v), len(rows[good])) for v in VERDICTS))


def main() -> None:
    """Makes the cases, or reads them, and prints how the rule judges them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("domains", nargs="*", choices=[[], *DOMAINS], help="default: all")
    parser.add_argument("--facts", type=Path, help="keep the numbers of every map here, and read them again where they are there")
    parser.add_argument("--names", action="store_true", help="a line for every kind of map")
    args = parser.parse_args()
    kept: dict[str, list[dict[str, Any]]] = json.loads(args.facts.read_text()) if args.facts and args.facts.is_file() else {}
    wanted = args.domains or [d for d in DOMAINS if d != "photos and crops"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in wanted:
            if name not in kept:
                kept[name] = [dataclasses.asdict(c) for c in cases(DOMAINS[name]())]
                if args.facts:
                    args.facts.write_text(json.dumps(kept))
    told([Case(**c) for name in wanted for c in kept[name]], Cuts(), args.names)


if __name__ == "__main__":
    main()
