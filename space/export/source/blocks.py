"""The block and the model of generated code, written for the layouts and the interface that occur."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...architecture import Architecture
from ...feedforward.moe import Moe
from ...model import Block


@dataclass(frozen=True, slots=True)
class Layout:
    """What decides the formula of a block."""

    placement: str
    residual: str
    has_feed_forward: bool
    masks_feed_forward: bool
    """Experts leave padded tokens out."""


def layout_of(block: Block) -> Layout:
    fed = block.feed_forward
    return Layout(block.placement, block.residual, fed is not None, isinstance(fed, Moe))


def block_names(layouts: Sequence[Layout]) -> dict[Layout, str]:
    """`Block` where there is one layout, else names that say the differences."""
    known = list(dict.fromkeys(layouts))
    if len(known) == 1:
        return {known[0]: "Block"}
    names: dict[Layout, str] = {}
    for layout in known:
        name = layout.placement.capitalize() + layout.residual.capitalize()
        name += "" if layout.has_feed_forward else "Mixer"
        names[layout] = name + ("Experts" if layout.masks_feed_forward else "") + "Block"
    return names


def block_lines(name: str, layout: Layout, *, decodes: bool) -> list[str]:
    """A class whose methods are the formula of its layout, for all tokens and token by token."""
    parts = _part_names(layout)
    formula = _formula(layout)
    lines = [f"class {name}(nn.Module):", f'    """{_docstring(layout)}"""', ""]
    parameters = ", ".join(["self", "*", *(f"{part}: nn.Module" for part in parts)])
    head = f"    def __init__({parameters}) -> None:"
    if len(head) > 110:
        inner = "".join(f"        {item},\n" for item in parameters.split(", "))
        head = f"    def __init__(\n{inner}    ) -> None:"
    lines += [*head.splitlines(), "        super().__init__()"]
    lines += [f"        self.{part} = {part}" for part in parts]
    whole = "def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:"
    lines += ["", f"    {whole}", *_body(formula, "mixed = self.mixer({}, mask)", "x")]
    if decodes:
        kept = "mixed, state = self.mixer.{}"
        prefill = "def prefill(self, x: Tensor) -> tuple[Tensor, State]:"
        docstring = '        """`forward`, and the state after its tokens."""'
        lines += ["", f"    {prefill}", docstring, *_body(formula, kept.format("prefill({})"), "x, state")]
        step = "def step(self, x: Tensor, state: State, position: Tensor) -> tuple[Tensor, State]:"
        docstring = '        """One token [batch, 1, d_model], and the next state."""'
        lines += ["", f"    {step}", docstring]
        lines += _body(formula, kept.format("step({}, state, position)"), "x, state")
    return lines


def _body(formula: Sequence[str], mix: str, result: str) -> list[str]:
    """`formula` has the input of the mixer behind MIX."""
    lines = []
    for line in formula:
        text = mix.format(line.removeprefix("MIX ")) if line.startswith("MIX ") else line
        if "self.mixer." in mix:
            text = text.replace(", mask)", ")")
        lines.append(f"        {text}")
    if result == "x" and lines[-1].startswith("        x = "):
        return [*lines[:-1], lines[-1].replace("x = ", "return ", 1)]
    return [*lines, f"        return {result}"]


def _part_names(layout: Layout) -> list[str]:
    names = ["mixer_norm", "mixer"]
    if layout.residual == "macaron":
        names = ["first_norm", "first_feed_forward", *names]
    if layout.has_feed_forward:
        alone = layout.placement == "post" and layout.residual == "parallel"
        names += ["feed_forward"] if alone else ["feed_forward_norm", "feed_forward"]
    return names


def _formula(layout: Layout) -> list[str]:
    """Statements that change x; MIX is followed by what the mixer reads."""
    mask = ", mask" if layout.masks_feed_forward else ""
    half = "0.5 * " if layout.residual == "macaron" else ""
    if layout.placement == "pre":
        fed = f"self.feed_forward(self.feed_forward_norm(x){mask})"
        if layout.residual == "parallel":
            return ["MIX self.mixer_norm(x)", f"x = x + mixed + {fed}"]
        first = [f"x = x + 0.5 * self.first_feed_forward(self.first_norm(x){mask})"] if half else []
        last = [f"x = x + {half}{fed}"] if layout.has_feed_forward else []
        return [*first, "MIX self.mixer_norm(x)", "x = x + mixed", *last]
    fed = f"self.feed_forward(x{mask})"
    if layout.residual == "parallel":
        return ["MIX x", f"x = self.mixer_norm(x + mixed + {fed})"]
    first = [f"x = self.first_norm(x + 0.5 * self.first_feed_forward(x{mask}))"] if half else []
    last = [f"x = self.feed_forward_norm(x + {half}{fed})"] if layout.has_feed_forward else []
    return [*first, "MIX x", "x = self.mixer_norm(x + mixed)", *last]


def _docstring(layout: Layout) -> str:
    second = " and a feed-forward" if layout.has_feed_forward else ""
    if layout.residual == "macaron":
        second = " between two halves of a feed-forward"
    where = "before" if layout.placement == "pre" else "behind"
    beside = ", side by side" if layout.residual == "parallel" else ""
    return f"A token mixer{second}{beside}; norms stand {where} their branch."


@dataclass(frozen=True, slots=True)
class ModelWords:
    """What the text of the model depends on."""

    architecture: Architecture
    has_position: bool
    decodes: bool
    reads_mask_in_head: bool

    @property
    def input(self) -> str:
        return {"bytes": "tokens", "values": "values", "image": "image"}[self.architecture.interface.input]


def model_lines(words: ModelWords, table: Sequence[str]) -> list[str]:
    """The class of the whole model; `table`: the body of its constructor."""
    architecture = words.architecture
    lines = [
        "class Model(nn.Module):",
        f'    """{_model_words(architecture)}"""',
        "",
        f"    context_length = {architecture.tokens}",
        "",
        "    def __init__(self) -> None:",
        "        super().__init__()",
        *table,
        "",
        *_forward(words),
    ]
    return [*lines, *(_decoding(words) if words.decodes else [])]


def _model_words(architecture: Architecture) -> str:
    layers = len(architecture.layers)
    per = "at every token" if architecture.head.kind == "language" else "per input"
    return (
        f"{article(architecture.model)} of {layers} layer{'s' if layers > 1 else ''}, "
        f"width {architecture.d_model}: {architecture.interface.outputs} logits {per}."
    )


def article(noun: str) -> str:
    return f"{'An' if noun[0] in 'aeiou' else 'A'} {noun}"


def _forward(words: ModelWords) -> list[str]:
    architecture, name = words.architecture, words.input
    is_image = name == "image"
    axes = {
        "tokens": "token ids [batch, length]",
        "values": "values [batch, length, channels]",
        "image": "images [batch, channels, height, width]",
    }[name]
    mask = "" if is_image else ", mask: Tensor | None = None"
    lines = [f"    def forward(self, {name}: Tensor{mask}) -> Tensor:"]
    real = "" if is_image else " `mask` [batch, length] is True at real tokens."
    docstring = f"Logits of {axes}.{real}"
    lines += [f'        """{docstring}"""']
    if not is_image:
        lines += [
            f"        if {name}.shape[1] > self.context_length:",
            f'            raise ValueError(f"{{{name}.shape[1]}} tokens are more than '
            '{self.context_length}")',
        ]
    embedded = f"self.embedding({name})"
    lines.append(f"        x = {f'self.position({embedded})' if words.has_position else embedded}")
    if architecture.class_tokens and not is_image:
        lines += [
            "        if mask is not None:  # the class token is real",
            "            mask = torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1)",
        ]
    given = "x" if is_image else "x, mask"
    lines += ["        for block in self.blocks:", f"            x = block({given})"]
    head = (
        "self.head(self.final_norm(x), mask)"
        if words.reads_mask_in_head and not is_image
        else ("self.head(self.final_norm(x))")
    )
    return [*lines, f"        return {head}"]


def _decoding(words: ModelWords) -> list[str]:
    """Token by token: states, prompt, one step, whole continuations."""
    first = "self.position(self.embedding(tokens[:, None]), position)"
    step = first if words.has_position else "self.embedding(tokens[:, None])"
    prompt = "self.position(self.embedding(tokens))" if words.has_position else "self.embedding(tokens)"
    text = f'''
    def init_state(self, batch_size: int) -> list[State]:
        """The state of every layer before any token."""
        return [block.mixer.init_state(batch_size) for block in self.blocks]

    def prefill(self, tokens: Tensor) -> tuple[Tensor, list[State]]:
        """Logits at every token of a prompt [batch, length], and the state after it."""
        x, states = {prompt}, []
        for block in self.blocks:
            x, state = block.prefill(x)
            states.append(state)
        return self.head(self.final_norm(x)), states

    def step(self, tokens: Tensor, states: list[State], position: Tensor) -> tuple[Tensor, list[State]]:
        """Logits after one more token per sequence [batch]; `position` counts the tokens before it."""
        x, after = {step}, []
        for block, state in zip(self.blocks, states, strict=True):
            x, kept = block.step(x, state, position)
            after.append(kept)
        return self.head(self.final_norm(x))[:, 0], after

    @torch.inference_mode()
    def generate(
        self,
        prompt: Tensor,
        max_new_tokens: int,
        *,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The prompt [batch, length] continued: the likeliest token at temperature 0, else drawn."""
        n = prompt.shape[1]
        if not 1 <= n <= n + max_new_tokens <= self.context_length:
            raise ValueError(f"{{n}} and {{max_new_tokens}} tokens do not fit {{self.context_length}}")
        logits, states = self.prefill(prompt)
        last, rows = logits[:, -1], [prompt]
        for position in range(n, n + max_new_tokens):
            if temperature == 0.0:
                token = last.argmax(dim=-1)
            else:
                weights = torch.softmax(last / temperature, dim=-1)
                token = torch.multinomial(weights, 1, generator=generator)[:, 0]
            rows.append(token[:, None])
            if position + 1 < n + max_new_tokens:
                last, states = self.step(token, states, torch.tensor(position, device=token.device))
        return torch.cat(rows, dim=1)'''
    return text.splitlines()


def loader_lines(weights: str) -> list[str]:
    text = f'''
def load(folder: str | Path = Path(__file__).parent) -> Model:
    """The trained model of a folder, in evaluation mode."""
    model = Model()
    load_model(model, Path(folder) / "{weights}")
    return model.eval()'''
    return text.splitlines()[1:]
