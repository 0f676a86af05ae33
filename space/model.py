"""Architecture -> module.

x = position(embedding(inputs))
x = block_l(x) for every layer l          (see `Block`)
logits = head(final_norm(x))
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor, nn

from .architecture import Architecture, LayerConfig
from .choice import FeedForward, HasAuxiliaryLoss, Norm, Scheduled, State, Surroundings
from .embedding import ClassToken, build_embedding, build_head
from .errors import InvalidInputError, UnsupportedError
from .roles import HasRoles, ParameterRole


class Block(nn.Module):
    """Mixer and feed-forward with their norms. Without a feed-forward its branch is left out.

    pre, serial:     x <- x + mixer(n1 x);  x <- x + ffn(n2 x)
    pre, parallel:   x <- x + mixer(n1 x) + ffn(n2 x)
    pre, macaron:    x <- x + ffn1(n0 x) / 2;  x <- x + mixer(n1 x);  x <- x + ffn2(n2 x) / 2
    post, serial:    x <- n1(x + mixer(x));  x <- n2(x + ffn(x))
    post, parallel:  x <- n1(x + mixer(x) + ffn(x));  there is no second norm
    post, macaron:   x <- n0(x + ffn1(x) / 2);  x <- n1(x + mixer(x));  x <- n2(x + ffn2(x) / 2)

    Source of macaron: Lu et al. 2019, arXiv:1906.02762; each of the two has half the hidden width here.
    """

    def __init__(self, layer: LayerConfig, at: Surroundings) -> None:
        super().__init__()
        d, feed_forwards = at.d_model, [config.build(at) for config in layer.feed_forwards]
        self.placement, self.residual = layer.placement, layer.residual
        self.mixer_norm = layer.norm.build(d)
        self.mixer = layer.mixer.build(at)
        self.first_norm = layer.norm.build(d) if layer.residual == "macaron" else None
        self.first_feed_forward = feed_forwards[0] if layer.residual == "macaron" else None
        has_second = layer.num_norms > 1
        self.feed_forward_norm = layer.norm.build(d) if has_second else None
        self.feed_forward = feed_forwards[-1] if feed_forwards else None

    def share(self, owner: "Block", *, norms: bool) -> None:
        """Takes the owner's mixer and feed-forwards, and its norms too."""
        self.mixer = owner.mixer
        self.first_feed_forward, self.feed_forward = owner.first_feed_forward, owner.feed_forward
        if norms:
            self.mixer_norm, self.first_norm = owner.mixer_norm, owner.first_norm
            self.feed_forward_norm = owner.feed_forward_norm

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens d_model"]:
        return self._run(x, mask, lambda u: self.mixer(u, mask))

    def step(
        self,
        x: Float[Tensor, "batch one d_model"],
        state: State,
        position: Int[Tensor, ""],
        mask: Bool[Tensor, "batch one"] | None = None,
    ) -> tuple[Float[Tensor, "batch one d_model"], State]:
        """One token and the mixer's next state; see `Mixer.step`."""
        kept: list[State] = []

        def mix(u: Tensor) -> Tensor:
            y, after = self.mixer.step(u, state, position, mask)
            kept.append(after)
            return y

        return self._run(x, mask, mix), kept[0]

    def prefill(
        self, x: Float[Tensor, "batch tokens d_model"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> tuple[Float[Tensor, "batch tokens d_model"], State]:
        """`forward` and the mixer's state after it."""
        kept: list[State] = []

        def mix(u: Tensor) -> Tensor:
            y, after = self.mixer.prefill(u, mask)
            kept.append(after)
            return y

        return self._run(x, mask, mix), kept[0]

    def _run(self, x: Tensor, mask: Tensor | None, mix: Callable[[Tensor], Tensor]) -> Tensor:
        pre = self.placement == "pre"
        if self.residual == "parallel":
            if pre:
                mixed = mix(self.mixer_norm(x, mask))
                return x + mixed + _branch(self.feed_forward, _normed(self.feed_forward_norm, x, mask), mask)
            return _normed(self.mixer_norm, x + mix(x) + _branch(self.feed_forward, x, mask), mask)
        half = 0.5 if self.residual == "macaron" else 1.0
        x = self._feed(x, mask, self.first_feed_forward, self.first_norm, half)
        if pre:
            mixed = mix(self.mixer_norm(x, mask))
            return self._feed(x, mask, self.feed_forward, self.feed_forward_norm, half, mixed)
        x, _ = self.mixer_norm.after_sum(x, mix(x), mask)
        return self._feed(x, mask, self.feed_forward, self.feed_forward_norm, half)

    def _feed(
        self,
        x: Tensor,
        mask: Tensor | None,
        feed_forward: FeedForward | None,
        norm: Norm | None,
        factor: float,
        mixed: Tensor | None = None,
    ) -> Tensor:
        """x with the scaled feed-forward added and normed as the placement says; x where there is none.

        `mixed`: a branch that is added before, so that norms add and norm in one.
        """
        if feed_forward is None:
            return x if mixed is None else x + mixed
        assert norm is not None
        if self.placement == "post":
            fed = _branch(feed_forward, x, mask)
            return norm.after_sum(x, fed if factor == 1.0 else factor * fed, mask)[0]
        normed, x = (norm(x, mask), x) if mixed is None else norm.after_sum(x, mixed, mask)
        fed = _branch(feed_forward, normed, mask)
        return x + (fed if factor == 1.0 else factor * fed)


def _normed(norm: Norm | None, x: Tensor, mask: Tensor | None) -> Tensor:
    if norm is None:
        return x
    y: Tensor = norm(x, mask)
    return y


def _branch(feed_forward: FeedForward | None, x: Tensor, mask: Tensor | None) -> Tensor:
    """Of a layer that has a feed-forward."""
    assert feed_forward is not None
    y: Tensor = feed_forward(x, mask)
    return y


class Model(nn.Module):
    """A built architecture, in float32; `space.number_formats` gives the form in its number formats."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        d = architecture.d_model
        at = architecture.surroundings()
        self.d_model, self.is_causal = d, architecture.is_causal
        self.context_length = architecture.tokens + architecture.class_tokens
        self._undecodable = _undecodable(architecture)
        embedding = build_embedding(architecture.interface, d, architecture.embedding_width)
        self.embedding = ClassToken(embedding, d) if architecture.class_tokens else embedding
        self.position = architecture.position.build(at)
        self.blocks = _blocks(architecture, at)
        self.final_norm = architecture.final_norm.build(d)
        self.head = build_head(
            architecture.head, self.embedding, d_model=d, outputs=architecture.interface.outputs
        )
        others = [module for module in self.modules() if module is not self]
        self._scheduled: list[Scheduled] = [module for module in others if isinstance(module, Scheduled)]
        self._adding: list[HasAuxiliaryLoss] = [m for m in others if isinstance(m, HasAuxiliaryLoss)]

    def forward(
        self, inputs: Num[Tensor, "batch ..."], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch ... outputs"]:
        """Logits: per token for a language head, else per input. `mask` is True at real tokens."""
        for module in self._adding:
            module.auxiliary_loss = None
        x = self.position(self._embedded(inputs))
        if mask is not None and isinstance(self.embedding, ClassToken):
            mask = torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1)
        for block in self.blocks:
            x = block(x, mask)
        logits: Tensor = self.head(self.final_norm(x, mask), mask)
        return logits

    def feed_forwards(self) -> Iterator[FeedForward]:
        """Those of all layers in the order they run: none, one or two of a layer, shared ones every time."""
        for index in self._layers:
            block = self._block(index)
            for half in (block.first_feed_forward, block.feed_forward):
                if half is not None:
                    yield half

    def set_progress(self, fraction: float) -> None:
        """Tells every module whose function changes over a training how far it is, 0 to 1."""
        for module in self._scheduled:
            module.set_progress(fraction)

    def auxiliary_loss(self) -> Float[Tensor, ""] | None:
        """Sum of what modules want added to the loss after a forward pass in training mode; None: nothing."""
        present = [module.auxiliary_loss for module in self._adding if module.auxiliary_loss is not None]
        return torch.stack(present).sum() if present else None

    def init_state(self, batch_size: int, *, dtype: torch.dtype = torch.float32) -> list[State]:
        """The state of every layer before any token; layers that share weights have their own.

        Raises:
            UnsupportedError: the model does not run token by token.
        """
        self._check_decodes()
        return [self._block(index).mixer.init_state(batch_size, dtype=dtype) for index in self._layers]

    def step(
        self, tokens: Int[Tensor, " batch"], states: list[State], position: Int[Tensor, ""]
    ) -> tuple[Float[Tensor, "batch outputs"], list[State]]:
        """Logits after one more token per sequence; `position` counts the tokens before it."""
        x = self.position(self.embedding(tokens[:, None]), position)
        after = []
        for index, state in zip(self._layers, states, strict=True):
            x, kept = self._block(index).step(x, state, position)
            after.append(kept)
        logits: Tensor = self.head(self.final_norm(x), None)
        return logits[:, 0], after

    def prefill(
        self, tokens: Int[Tensor, "batch tokens"]
    ) -> tuple[Float[Tensor, "batch tokens outputs"], list[State]]:
        """Logits at every token of a prompt and the state after it.

        Raises:
            UnsupportedError: the model does not run token by token.
            InvalidInputError: more tokens than the context length.
        """
        self._check_decodes()
        x, states = self.position(self._embedded(tokens)), []
        for index in self._layers:
            x, state = self._block(index).prefill(x)
            states.append(state)
        logits: Tensor = self.head(self.final_norm(x), None)
        return logits, states

    @torch.inference_mode()
    def generate(
        self,
        prompt: Int[Tensor, "batch tokens"],
        max_new_tokens: int,
        *,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, "batch longer"]:
        """The prompt continued token by token: the likeliest one at temperature 0, else drawn.

        Raises:
            UnsupportedError: the model does not run token by token.
            InvalidInputError: an empty prompt, or more tokens than the context length.
        """
        self._check_decodes()
        n = prompt.shape[1]
        if not 1 <= n <= n + max_new_tokens <= self.context_length:
            raise InvalidInputError(
                f"a prompt of {n} tokens and {max_new_tokens} new ones do not fit the context length, "
                f"{self.context_length}; the prompt needs at least one token"
            )
        logits, states = self.prefill(prompt)
        last, rows = logits[:, -1], [prompt]
        for position in range(n, n + max_new_tokens):
            token = _chosen(last, temperature, generator)
            rows.append(token[:, None])
            if position + 1 < n + max_new_tokens:
                last, states = self.step(token, states, torch.tensor(position, device=token.device))
        return torch.cat(rows, dim=1)

    def _embedded(self, inputs: Tensor) -> Tensor:
        """Tokens, no more of them than the context length."""
        x: Tensor = self.embedding(inputs)
        if not torch.onnx.is_in_onnx_export() and x.shape[1] > self.context_length:
            own = int(isinstance(self.embedding, ClassToken))
            raise InvalidInputError(
                f"{x.shape[1] - own} tokens are more than the context length, {self.context_length - own}; "
                "cut the input"
            )
        return x

    def _check_decodes(self) -> None:
        if self._undecodable is not None:
            raise UnsupportedError(f"{self._undecodable}, so that the model does not run token by token")

    @property
    def _layers(self) -> range:
        return range(len(self.blocks))

    def _block(self, index: int) -> Block:
        block = self.blocks[index]
        assert isinstance(block, Block)
        return block


def _undecodable(architecture: Architecture) -> str | None:
    """Why a model of this architecture does not run token by token; None: it does."""
    if not architecture.is_causal:
        return f"a model of kind '{architecture.model}' is not causal"
    for index, layer in enumerate(architecture.layers):
        if not layer.mixer.decodable:
            return f"layer {index}: mixer '{layer.mixer.kind}' keeps no state"
    return None


def _chosen(
    logits: Float[Tensor, "batch outputs"], temperature: float, generator: torch.Generator | None
) -> Int[Tensor, " batch"]:
    if temperature == 0.0:
        return logits.argmax(dim=-1)
    weights = torch.softmax(logits / temperature, dim=-1)
    return torch.multinomial(weights, 1, generator=generator)[:, 0]


def _blocks(architecture: Architecture, at: Surroundings) -> nn.ModuleList:
    """One block per layer; layers that share weights hold the same modules."""
    blocks: list[Block] = []
    private_norm = getattr(architecture.sharing, "private_norm", False)
    for layer, owner in zip(architecture.layers, architecture.owners, strict=True):
        if owner < len(blocks) and not private_norm:
            blocks.append(blocks[owner])
            continue
        block = Block(layer, at)
        if owner < len(blocks):
            block.share(blocks[owner], norms=False)
        blocks.append(block)
    return nn.ModuleList(blocks)


def build_model(architecture: Architecture, *, seed: int | None = None) -> Model:
    """A freshly initialised model on the CPU, in float32.

    With a seed the weights depend on it alone and torch's global generator is left as it was; without one
    they come from that generator.

    Raises:
        InvalidArchitectureError: no model of this description can be built.
    """
    if seed is None:
        return Model(architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Model(architecture)


def parameter_roles(model: Model) -> dict[str, ParameterRole]:
    """Role of every parameter, by its name in `model.named_parameters()`."""
    roles: dict[str, ParameterRole] = {}
    for prefix, module in model.named_modules():
        if not isinstance(module, HasRoles):
            continue
        layer = int(prefix.split(".")[1]) if prefix.startswith("blocks.") else None
        for name, role in module.parameter_roles().items():
            roles[f"{prefix}.{name}"] = replace(role, layer=layer)
    return roles
