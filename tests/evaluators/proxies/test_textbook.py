"""Every proxy of gradients and activations against its definition, on a small float64 model, without harness.

The harness runs in float32 and by micro-batches; the definitions run the whole batch at once.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from evaluators.passes.losses import projection
from evaluators.protocol import Measurement
from evaluators.proxies import score
from evaluators.proxies.jacob_cosine import cosine_score_reference
from evaluators.proxies.meco import sampled
from evaluators.proxies.swap import EXAMPLES, distinct_reference
from evaluators.proxy import initialisation_seed
from evaluators.sign_codes import agreement_reference
from evaluators.spectra import correlation_reference
from space.architecture import parse_architecture
from space.model import Model, build_model, parameter_roles

ARCHITECTURE = parse_architecture(
    {
        "model": "decoder",
        "interface": {"input": "bytes", "vocab_size": 20, "context_length": 8, "outputs": 20},
        "d_model": 12,
        "position": {"kind": "learned"},
        "layers": [
            {
                "mixer": {"kind": "softmax", "num_heads": 2, "num_kv_heads": groups},
                "feed_forward": feed_forward,
                "norm": {"kind": "layernorm"},
            }
            for groups, feed_forward in (
                (2, {"kind": "mlp", "activation": "gelu", "d_ff": 18}),
                (1, {"kind": "glu", "activation": "silu", "d_ff": 10}),
            )
        ],
        "final_norm": {"kind": "layernorm"},
        "head": {"kind": "language"},
    }
)
SEED = initialisation_seed(ARCHITECTURE, 0, 0)
RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 20, (16, 8)), RNG.integers(0, 20, (16, 8))
NAMES = (
    "grad_norm", "snip", "grasp", "fisher", "synaptic_saliency", "synaptic_diversity", "attention_importance",
    "jacob_cov", "jacob_cosine", "ntk_cond", "naswot", "activation_distance", "swap", "attention_confidence",
    "head_confidence", "hidden_covariance", "meco", "az_expressivity", "az_progressivity", "zico", "w_pca",
    "dss", "synflow_log",
)  # fmt: skip


class Seen:
    """One forward pass of the whole batch in float64, with what a person would write down of it."""

    def __init__(self) -> None:
        self.model: Model = build_model(ARCHITECTURE, seed=SEED).double().eval()
        self.x, self.y = torch.tensor(X), torch.tensor(Y)
        model = self.model
        self.embedded = model.embedding(self.x).detach() + model.position.get_parameter("table")[:8].detach()
        self.embedded.requires_grad_(True)
        self.activations: list[Tensor] = []
        self.before: list[Tensor] = []
        self.blocks: list[Tensor] = []
        self.probabilities: list[Tensor] = []
        self.reads: list[Tensor] = []
        state = self.embedded
        for block in model.blocks:
            state = self._block(block, state)
            self.blocks.append(state)
        self.last = model.final_norm(state)
        self.logits = model.head(self.last)
        self.loss = functional.cross_entropy(self.logits.flatten(0, 1), self.y.flatten())

    def _block(self, block: Any, x: Tensor) -> Tensor:
        attention, normed = block.mixer, block.mixer_norm(x)
        h, g, k = attention.num_heads, attention.num_kv_heads, attention.head_width
        fused = attention.qkv(normed)
        self.reads.append(fused.detach())
        q, key, v = fused.split([h * k, g * k, g * k], dim=-1)
        heads = []
        for a in range(h):
            own = slice(a * k, a * k + k)
            group = slice(a * g // h * k, a * g // h * k + k)
            scores = q[..., own] @ key[..., group].transpose(1, 2) / math.sqrt(k)
            scores = scores.masked_fill(torch.ones(8, 8).triu(1).bool(), -math.inf)
            heads.append((torch.softmax(scores, -1), v[..., group]))
        self.probabilities.append(torch.stack([p.detach() for p, _ in heads], dim=1))
        mixed = attention.out(torch.cat([p @ values for p, values in heads], dim=-1))
        self.activations.append(mixed)
        x = x + mixed
        feed = block.feed_forward
        u = block.feed_forward_norm(x)
        if hasattr(feed, "gate_up"):
            gate, up = feed.gate_up(u).chunk(2, dim=-1)
            self.before.append(gate.detach())
            hidden = functional.silu(gate) * up
        else:
            pre = feed.up(u)
            self.before.append(pre.detach())
            hidden = functional.gelu(pre)
        self.activations.append(hidden)
        y: Tensor = x + feed.down(hidden)
        return y

    def matrices(self) -> list[tuple[str, list[int], Tensor]]:
        """Role, parts and weight of every matrix of mixers and feed-forwards."""
        return [
            (role.role, list(role.parts) or [len(weight)], weight)
            for name, role in parameter_roles(self.model).items()
            if (weight := self.model.get_parameter(name)).ndim == 2
            and role.role.startswith(("mixer.", "ffn."))
        ]

    def gradients(self, of: Tensor, *, create_graph: bool = False) -> list[Tensor]:
        weights = [weight for _, _, weight in self.matrices()]
        return list(torch.autograd.grad(of, weights, retain_graph=True, create_graph=create_graph))

    def parts(self, prefix: str = "") -> list[tuple[str, Tensor, Tensor]]:
        """Role, value and gradient of the loss of every single matrix."""
        return [
            (role, w.detach(), g)
            for (role, sizes, weight), gradient in zip(
                self.matrices(), self.gradients(self.loss), strict=True
            )
            if role.startswith(prefix)
            for w, g in zip(torch.split(weight, sizes), torch.split(gradient, sizes), strict=True)
        ]

    def jacobian(self) -> Tensor:
        """dL_R/dX_0, one row per example."""
        rows = []
        for b in range(16):
            alone = projection(self.last, SEED)[b]
            (gradient,) = torch.autograd.grad(alone, self.embedded, retain_graph=True)
            rows.append(gradient[b].flatten())
        return torch.stack(rows)


@pytest.fixture(scope="module")
def seen() -> Seen:
    return Seen()


@pytest.fixture(scope="module")
def found() -> Mapping[str, Measurement]:
    return score(ARCHITECTURE, X, Y, NAMES, seed=0, num_seeds=1)


def log_eigenvalues(rows: Tensor) -> float:
    values = np.linalg.eigvalsh(np.array(correlation_reference(rows)))
    return -math.fsum(math.log(v + 1e-5) + 1 / (v + 1e-5) for v in np.maximum(values, 0.0))


def entropy(block: Tensor) -> float:
    rows = block.detach().flatten(0, 1).numpy()
    values = np.linalg.eigvalsh(np.cov(rows.T, bias=True))
    shares = values[values > 1e-15] / values.sum()
    return -float((shares * np.log(shares)).sum())


def grasp(seen: Seen) -> float:
    first = seen.gradients(seen.loss, create_graph=True)
    along = torch.stack([(g * g.detach()).sum() for g in first]).sum()
    return -sum(
        float((weight.detach() * second).sum())
        for (_, _, weight), second in zip(seen.matrices(), seen.gradients(along), strict=True)
    )


def fisher(seen: Seen) -> float:
    total = 0.0
    for z, g in zip(
        seen.activations, torch.autograd.grad(seen.loss, seen.activations, retain_graph=True), strict=True
    ):
        total += float(((z.detach() * g).sum(1) ** 2).mean(0).sum()) / 2
    return total


def ntk(seen: Seen) -> float:
    each = projection(seen.last, SEED)
    rows = torch.stack([torch.cat([g.flatten() for g in seen.gradients(one)]) for one in each])
    values = torch.linalg.eigvalsh(rows @ rows.T)
    return -float(values[-1] / values[0])


def naswot(seen: Seen) -> float:
    table = np.array(agreement_reference([(u > 0).flatten(1) for u in seen.before]), dtype=float)
    return float(np.linalg.slogdet(table)[1])


def zico(seen: Seen) -> float:
    parts = [slice(4 * k, 4 * k + 4) for k in range(4)]
    losses = [functional.cross_entropy(seen.logits[p].flatten(0, 1), seen.y[p].flatten()) for p in parts]
    total = 0.0
    for stack, (_, sizes, _) in zip(
        zip(*(seen.gradients(one) for one in losses), strict=True), seen.matrices(), strict=True
    ):
        for each in zip(*(torch.split(one, sizes) for one in stack), strict=True):
            g = torch.stack(each)
            total += math.log(float((g.abs().mean(0) / g.std(0, correction=0)).sum()))
    return total


def w_pca(seen: Seen) -> float:
    total = 0
    for hidden in seen.activations[1::2]:
        rows = hidden.detach().flatten(0, 1).numpy()
        values = np.sort(np.linalg.eigvalsh(np.cov(rows.T, bias=True)))[::-1]
        total += int(np.argmax(values.cumsum() / values.sum() >= 0.99)) + 1
    return float(total * sum(p.numel() for p in seen.model.parameters()))


DEFINITIONS: dict[str, Callable[[Seen], float]] = {
    "grad_norm": lambda seen: sum(float(g.square().sum().sqrt()) for _, _, g in seen.parts()),
    "snip": lambda seen: sum(float((w * g).abs().sum()) for _, w, g in seen.parts()),
    "grasp": grasp,
    "fisher": fisher,
    "synaptic_saliency": lambda seen: sum(float((w * g).abs().sum()) for _, w, g in seen.parts("ffn.")),
    "synaptic_diversity": lambda seen: sum(
        float(torch.linalg.matrix_norm(w, "nuc") * torch.linalg.matrix_norm(g, "nuc"))
        for _, w, g in seen.parts("mixer.")
    ),
    "attention_importance": lambda seen: (
        sum(float((w * g).abs().sum()) for _, w, g in seen.parts("mixer.")) / 8
    ),
    "jacob_cov": lambda seen: log_eigenvalues(seen.jacobian()),
    "jacob_cosine": lambda seen: cosine_score_reference(seen.jacobian()),
    "ntk_cond": ntk,
    "naswot": naswot,
    "activation_distance": lambda seen: float(
        np.sum(agreement_reference([(u > 0).flatten(1) for u in seen.before]))
    ),
    "swap": lambda seen: float(sum(distinct_reference(u.mean(1)[:EXAMPLES] > 0) for u in seen.before)),
    "attention_confidence": lambda seen: sum(float(p.amax(-1).mean()) for p in seen.probabilities) / 2,
    "head_confidence": lambda seen: sum(float(r.amax(1).mean()) for r in seen.reads) / 2,
    "hidden_covariance": lambda seen: sum(log_eigenvalues(x.detach()[:, -1]) for x in seen.blocks),
    "meco": lambda seen: sum(
        float(np.linalg.eigvalsh(np.corrcoef(sampled(x.detach().flatten(0, 1).T, seed=i).numpy()))[0])
        for i, x in enumerate(seen.blocks)
    ),
    "az_expressivity": lambda seen: sum(entropy(x) for x in seen.blocks),
    "az_progressivity": lambda seen: entropy(seen.blocks[1]) - entropy(seen.blocks[0]),
    "zico": zico,
    "w_pca": w_pca,
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_proxy_is_its_definition(seen: Seen, found: Mapping[str, Measurement], name: str) -> None:
    # float32 and micro-batches against float64 at once; eigenvalues near 0 carry the largest error
    tolerance = 2e-2 if name in ("jacob_cov", "hidden_covariance", "az_progressivity") else 1e-3
    assert found[name].status == "ok", found[name].detail
    assert found[name].value == pytest.approx(DEFINITIONS[name](seen), rel=tolerance)


def test_the_forms_beside_confidence_are_those_of_the_published_code(
    seen: Seen, found: Mapping[str, Measurement]
) -> None:
    detail = found["attention_confidence"].detail
    heads = sum(float(p.amax(1).mean()) for p in seen.probabilities) / 2
    assert detail["conf_head"] == pytest.approx(heads, rel=1e-4)
    assert detail["share"] == 1.0


def test_dss_by_its_definition(found: Mapping[str, Measurement]) -> None:
    model = build_model(ARCHITECTURE, seed=SEED).double().eval()
    matrices = {
        name: model.get_parameter(name)
        for name, role in parameter_roles(model).items()
        if role.role.startswith(("embed", "mixer.", "ffn.", "head"))
    }
    with torch.no_grad():
        for weight in matrices.values():
            weight.abs_()
    x = model.embedding.get_parameter("weight").mean(0).expand(1, 8, -1)
    x = x + model.position.get_parameter("table")[:8]
    for block in model.blocks:
        x = block(x)
    total = model.head(model.final_norm(x)).sum()
    diversity = saliency = 0.0
    for name, weight in matrices.items():
        role = parameter_roles(model)[name]
        (gradient,) = torch.autograd.grad(total, weight, retain_graph=True)
        sizes = list(role.parts) or [len(weight)]
        for w, g in zip(torch.split(weight.detach(), sizes), torch.split(gradient, sizes), strict=True):
            if role.role.startswith("mixer."):
                diversity += float(torch.linalg.matrix_norm(w, "nuc") * torch.linalg.matrix_norm(g, "nuc"))
            else:
                saliency += float((w * g).abs().sum())
    assert found["dss"].detail["diversity"] == pytest.approx(diversity, rel=1e-3)
    assert found["dss"].detail["saliency"] == pytest.approx(saliency, rel=1e-3)
    assert found["dss"].value == pytest.approx(diversity + saliency, rel=1e-3)


def test_synflow_by_its_definition(found: Mapping[str, Measurement]) -> None:
    model = build_model(ARCHITECTURE, seed=SEED).double().eval()

    def weight(name: str) -> np.ndarray:
        absolute: np.ndarray = model.get_parameter(f"{name}.weight").detach().abs().numpy()
        return absolute

    s = np.ones(12)
    for index, width in ((0, 12), (1, 6)):
        qkv = weight(f"blocks.{index}.mixer.qkv")
        q, k, v = qkv[:12], qkv[12 : 12 + width], qkv[12 + width :]
        values = np.tile(v @ s, 12 // width)
        s = s + q.mean() * k.mean() * (weight(f"blocks.{index}.mixer.out") @ values)
        feed = f"blocks.{index}.feed_forward"
        if index == 0:
            hidden = weight(f"{feed}.up") @ s
        else:
            both = weight(f"{feed}.gate_up") @ s
            hidden = np.sqrt(both[:10] * both[10:])
        s = s + weight(f"{feed}.down") @ hidden
    out = (weight("head.projection") @ s).sum()
    matrices = 2 * 4 + 2 + 3
    assert found["synflow_log"].value == pytest.approx(math.log(out) + math.log(matrices), rel=1e-6)
