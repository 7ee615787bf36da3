"""A recurrent network learns a tongue twister, character by character, and recites it."""

from typing import Any

import numpy as np

import tensorgrad as tg

TEXT = "How much wood would a woodchuck chuck if a woodchuck could chuck wood?"
ALPHABET = sorted(set(TEXT))
CODES = np.array([ALPHABET.index(c) for c in TEXT])


class CharacterModel(tg.nn.Module):
    """A gated recurrent unit that gives scores to the characters that may come next."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.embedding = tg.nn.Embedding(len(ALPHABET), 16, rng=rng)
        self.gru = tg.nn.GRU(16, 64, rng=rng)
        self.head = tg.nn.Linear(64, len(ALPHABET), rng=rng)

    def __call__(self, codes: Any, state: Any = None) -> tuple[Any, Any]:
        """Return scores, shape (length, characters), and the state after the last character."""
        output, state = self.gru(self.embedding(codes), state)
        return self.head(output), state


def train(model: CharacterModel, steps: int = 150) -> None:
    """Learn to predict each character of the text from those before it."""
    optimizer = tg.optim.Adam(model.parameters(), lr=0.01)
    for step in range(1, steps + 1):
        loss = tg.nn.cross_entropy(model(CODES[:-1])[0], CODES[1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 25 == 0:
            print(f"step {step:3}: {loss.item():.4f} nats per character")


@tg.no_grad
def recite(model: CharacterModel, prompt: str, length: int) -> str:
    """Return the prompt and `length` more characters, each the most likely one."""
    text, codes, state = prompt, [ALPHABET.index(c) for c in prompt], None
    for _ in range(length):
        scores, state = model(codes, state)
        codes = [int(scores[-1].argmax())]
        text += ALPHABET[codes[0]]
    return text


def main() -> None:
    """Learn the text, and recite it from its first word."""
    model = CharacterModel(np.random.default_rng(0))
    train(model)
    print(recite(model, "How", length=len(TEXT) - len("How")))


if __name__ == "__main__":
    main()
