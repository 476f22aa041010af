"""Write texts as templates do: most of their words are the same, one or two are the text's own."""

from random import Random

from tests.support.dedup_reference import Row

ORDINARY = [f"o{number}" for number in range(4000)]


def template_texts(count: int, size: int, own: int, name: str = "t", few: int = 0) -> list[str]:
    """Return texts of `size` words of which `own` are others in each text.

    The own words are never the same; with `few`, each is one of so many.
    """
    random = Random(f"{name} {size} {own} {few}")
    shared = [f"{name}{number}" for number in range(size - own)]
    texts = []
    for number in range(count):
        values = [random.randrange(few) if few else number for _ in range(own)]
        texts.append(" ".join([*shared, *(f"{name}x{n}y{v}" for n, v in enumerate(values))]))
    return texts


def ordinary_texts(count: int, seed: int = 0) -> list[str]:
    """Return texts of six to twenty random words, some of them copies with another word."""
    random, texts = Random(seed), list[list[str]]()
    for _ in range(count):
        if texts and random.random() < 0.3:
            words = list(random.choice(texts))
            words[random.randrange(len(words))] = random.choice(ORDINARY)
        else:
            words = random.sample(ORDINARY, random.randint(6, 20))
        texts.append(words)
    return [" ".join(words) for words in texts]


def mixed_rows(texts: list[str], seed: int = 0, shards: int = 3) -> list[Row]:
    """Return the texts in random order, in some shards, of a few qualities."""
    random = Random(seed)
    shuffled = random.sample(texts, len(texts))
    return [
        Row(f"p{number}", text, random.randint(1, shards), random.choice([0.0, 0.5]))
        for number, text in enumerate(shuffled)
    ]
