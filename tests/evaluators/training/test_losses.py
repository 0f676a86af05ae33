import torch
from torch.nn import functional as F

from evaluators.training import IGNORED
from evaluators.training.losses import mean_loss, mean_wrong, num_asked


def test_targets_that_ask_nothing_do_not_count() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 7, (3, 5), generator=generator)
    targets[0, 1:] = IGNORED
    targets[2, ::2] = IGNORED
    losses, wrong = mean_loss(logits, targets, per_example=True), mean_wrong(logits, targets)
    for row in range(3):
        asked = targets[row] != IGNORED
        chosen = F.log_softmax(logits[row, asked], -1).gather(1, targets[row, asked, None])
        torch.testing.assert_close(losses[row], -chosen.mean())
        hit = (logits[row, asked].argmax(-1) == targets[row, asked]).double().mean()
        torch.testing.assert_close(wrong[row], 1 - hit)
    assert num_asked(targets) == 1 + 5 + 2
    flat = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
    torch.testing.assert_close(mean_loss(logits, targets), flat)
