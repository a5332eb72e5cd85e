"""Text drawn with a memory is the text drawn without one."""

import pytest
import torch

from kdref.lab.models import decoding
from kdref.lab.models.causal_transformer import CausalTransformer, generate, up_to_end
from kdref.lab.models.decoding import write

LENGTH = 12


def model(seed: int = 1, *, sharp: float = 3.0) -> CausalTransformer:
    """A small model with clear opinions, whose end token is not too rare."""
    made = CausalTransformer(9, length=LENGTH, width=16, layers=2, heads=2, seed=seed).eval()
    with torch.no_grad():
        made.scores.weight.mul_(sharp)
    return made


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_it_draws_what_generate_draws_from_the_end_token(temperature: float) -> None:
    start = torch.zeros(50, 1, dtype=torch.int64)
    for end in (0, 3):
        expected = generate(
            model(),
            start + end,
            max_new_tokens=LENGTH - 1,
            end=end,
            temperature=temperature,
            generator=torch.Generator().manual_seed(5),
        )
        drawn = write(model(), 50, seed=5, temperature=temperature, end=end)
        assert torch.equal(drawn[:, 1:], expected)
        assert (drawn[:, 0] == end).all()


def test_what_the_memory_says_is_what_the_model_says_of_the_whole_text() -> None:
    rows = write(model(), 40, seed=0)
    memory = [decoding._Memory(block, 40, LENGTH) for block in model().blocks]
    with torch.no_grad():
        said = [decoding._scores(model(), rows[:, place], place, memory) for place in range(LENGTH)]
        torch.testing.assert_close(torch.stack(said, dim=1), model()(rows))


def test_after_the_end_there_is_only_the_end() -> None:
    rows = write(model(), 300, seed=2)
    written = up_to_end(rows[:, 1:], end=0)
    assert (rows[:, 1:][~written] == 0).all()
    assert 0 < (~written).sum() < written.numel()


def test_a_seed_gives_the_same_text_in_chunks_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "CHUNK", 7)
    state = torch.get_rng_state()
    rows, again, other = (write(model(), 17, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert rows.shape == (17, LENGTH)
    assert torch.equal(rows, again)
    assert not torch.equal(rows, other)
    assert write(model(), 2, seed=0, length=4).shape == (2, 4)
    assert not torch.equal(rows[:7], rows[7:14])


def test_bad_input_is_named() -> None:
    for count, temperature in ((0, 1.0), (1, -1.0)):
        with pytest.raises(ValueError, match="temperature must be at least 0 and count at least 1"):
            write(model(), count, seed=0, temperature=temperature)
    for length in (1, LENGTH + 1):
        with pytest.raises(ValueError, match=rf"length must be from 2 to the {LENGTH} tokens .* got {length}"):
            write(model(), 1, seed=0, length=length)
