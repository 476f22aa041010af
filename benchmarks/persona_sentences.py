"""Sentences that look like personas, with planted near-duplicates: made input for `dedup.py`.

Blocks of 20,000 rows stand on their own: each has its duplicates inside, so the density stays the
same however many blocks there are. What a block holds depends on the seed, its number and the
vocabulary only. Half of the words are drawn by Zipf's law from the packaged Wikipedia leads where
they are in the cache; without them from words invented here.
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from random import Random
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from persona_pipeline.artifacts.packages import cached_path

BLOCK = 20_000
GROUP_CHANCE = 0.09
"""Of a sentence to have copies; with COPY_TAIL this makes 19 % of the rows copies."""
COPY_TAIL = 1.35
"""Pareto exponent of the number of copies: most have one, some dozens."""
MOST_COPIES = 46
CHAIN_CHANCE = 0.3
"""Of a copy to be made of the copy before it: ends of a chain need not be similar."""
HOT_CHANCE = 0.05
HOT_TEMPLATES = 150
ACCENT_CHANCE = 0.02
TAIL_WORDS = 60_000
"""Size of the vocabulary, filled up with invented words."""
ZIPF_SHIFT, ZIPF_EXPONENT = 20, 0.95
LONG_WORD = 3
SHORTEST = 5
"""Words; below this an edit deletes nothing."""

EDITS = {
    "exact": 11,
    "case": 15,
    "reorder": 14,
    "insert1": 15,
    "delete1": 10,
    "substitute1": 10,
    "insert2": 4,
    "substitute2": 4,
    "mixed3": 4,
    "mixed5": 3,
}
"""What a copy may be, and how often; rarely more than three words differ."""

SHAPES = {
    "A {adjective} {role} from {place} who {does} {word} {topic}": 14,
    "A {role} in {place} who {does} {word} {topic} with {word} {word}": 12,
    "A {adjective} {role} who {does} {word} {word} {word} {topic} {reason}": 6,
    "A {word} {role} who {does} {word} {topic}": 9,
    "A {adjective} {word} {role} interested in {word} {word} and {word} {topic}": 14,
    "A {role} with {years} years of {word} {topic}, {word} {guild} and {word} {word}": 9,
    "A {adjective} {role} who {does} {word} {topic} for a {word} {guild} near {place}": 10,
    "A {adjective} {role} at a {word} {guild} who {does} {word} {topic} {reason}": 8,
    "A {role} and part-time {role} who {does} {word} {topic} with {word} {word} and {word}": 8,
    "A {word} {guild} {role} specializing in {word} {topic} and {word} {word}": 10,
    "A {role} from {place}, trained as a {role}, who {does} the {word} {topic} of {word} {word}": 7,
    "A {adjective} {role} writing about {word}, {word} and {word} {topic} {reason}, and {also}": 4,
    "A {adjective} {word} {role} of {word} {topic}": 4,
    "A {adjective} {role} in {place} whose {word} {guild} {does} {word} {topic} and {word} {word}, "
    "and who {also} {reason}": 4,
}

LISTS = {
    "adjective": """
        retired young patient stubborn cheerful sceptical self-taught freelance former
        newly-qualified seasoned quiet meticulous restless generous widowed bilingual part-time
        travelling nostalgic ambitious underpaid methodical outspoken reluctant devoted curious
        award-winning night-shift apprentice lifelong itinerant frugal impatient gentle observant
        tireless forgetful exacting independent overworked good-humoured third-generation
        semi-retired plain-spoken soft-spoken left-handed late-blooming well-read hard-pressed""",
    "role": """
        harbour pilot, beekeeper, hydrologist, night nurse, violin maker, tram driver, court
        interpreter, seed librarian, glaciologist, baker, piano tuner, customs officer, midwife,
        stonemason, map editor, crane operator, chemistry teacher, tax adviser, lockkeeper, opera
        prompter, veterinarian, ferry captain, roof thatcher, choir conductor, bus mechanic,
        actuary, locksmith, botanist, food inspector, weaver, puppeteer, surveyor, radiographer,
        football referee, bookbinder, wind-turbine technician, school caretaker, ornithologist,
        translator, lighthouse keeper, chess coach, dental hygienist, forester, archivist,
        barista, sound engineer, cheese maker, paramedic, soil scientist, game designer,
        goldsmith, union organizer, volcanologist, crossword setter, air-traffic controller, sign
        painter, mountain guide, pharmacist, museum guard, data engineer, fishmonger, immigration
        lawyer, radio presenter, carpenter, epidemiologist, shepherd, ceramics restorer, speech
        therapist, notary, shipwright, sommelier, kindergarten teacher, statistician, tailor,
        tunnel engineer, poet, plumber, textile historian, farrier, toxicologist, gardener,
        judge, pastry chef, bicycle courier, geneticist, undertaker, economist, glassblower,
        coastguard, philosopher, physiotherapist, blacksmith, census clerk, orchardist,
        astronomer, stage manager, miller, linguist, welder, swimming instructor, social worker,
        cartographer, firefighter, dietitian, printmaker, auctioneer, diver, mycologist, theatre
        critic, optician, quarry manager, landscape architect, debt counsellor, potter,
        meteorologist, dancer, insurance assessor, prison librarian, cellist, vintner, software
        tester, taxidermist, town planner, brewer, war correspondent, marine biologist, furniture
        restorer, logistician, hospital chaplain, saddler, patent examiner, water diviner,
        anaesthetist, folklorist, refrigeration engineer, youth worker, seismologist, basket
        maker, proofreader, bailiff, oyster farmer, organist, railway signaller, microbiologist,
        upholsterer, sculptor, claims handler, falconer""",
    "place": """
        Bergen, Porto, Tbilisi, Valparaiso, Leeds, Kisumu, Hobart, Tromso, Cork, Nagoya, Durban,
        Quito, Ghent, Halifax, Lahore, Izmir, Dakar, Oulu, Perth, Trieste, Pusan, Recife, Aarhus,
        Gdansk, Mombasa, Dundee, Winnipeg, Cebu, Split, Turin, Accra, Tampere, Bilbao, Pune,
        Galway, Varna, Osaka, Cusco, Basel, Riga, Tunis, Bristol, Kochi, Nantes, Graz, Windhoek,
        Duluth, Toledo, Utrecht, Malmo, Sligo, Hanoi, Rosario, Bamako, Plovdiv, Leuven, Calgary,
        Cadiz, Sapporo, Lviv, Mendoza, Bath, Kumasi, Ljubljana, Surabaya, Tartu, Haifa, Antwerp""",
    "accented": """
        Orléans, Málaga, Göteborg, Łódź, São Luís, Reykjavík, Plzeň, Besançon, Tromsø, Zürich,
        Brașov, Gijón, Århus, Győr, Košice, Mérida, Würzburg, Timișoara, Montréal, Jyväskylä""",
    "does": """
        restores, catalogues, repairs, teaches, photographs, collects, translates, forecasts,
        inspects, sketches, audits, breeds, measures, transcribes, designs, sells, documents,
        tests, maps, reviews, imports, rescues, simulates, explains, samples, archives, engraves,
        indexes, negotiates, compares, ferments, monitors, budgets, insures, paints, plans,
        recycles, edits, illustrates, dismantles, curates, counts, calibrates, reconstructs,
        narrates, questions, digitizes, rehearses, prices, drafts, trades, publishes, defends,
        studies, hand-letters""",
    "topic": """
        tide tables, church organs, school timetables, orchard maps, flood records, recipes,
        bridge plans, bird calls, court files, tram routes, wool patterns, harbour charts, folk
        songs, star catalogues, tax rules, soil samples, wedding dresses, clock movements, river
        gauges, grammar books, rail signals, medical leaflets, chess openings, bee hives, puppet
        scenes, ice cores, letterpress type, dance steps, water meters, travel diaries, seed
        packets, sonnets, shop ledgers, weather logs, roof tiles, hospital rotas, crossword
        grids, old maps, kites, street names, bicycle frames, census forms, fossil casts, radio
        plays, cheese caves, bread, patent drawings, funeral customs, sea shanties, glass moulds,
        bus depots, allotment plots, stamp albums, loan contracts, insect drawers, sewing
        machines, trade routes, herb gardens, football statistics, opera scores, wind maps, mine
        shafts, lullabies, museum labels, ferries, vaccine trials, paper archives, language
        courses, festival budgets, sheep pastures, dialects, pump stations, violin bows, customs
        forms, game rules, thesis drafts, cargo lists, kitchens, lichen surveys, court sketches,
        night trains, union minutes, tomb inscriptions, tide pools""",
    "guild": """
        cooperative, workshop, archive, ministry, clinic, choir, academy, museum, harbour,
        brewery, institute, newspaper, monastery, laboratory, theatre, nursery, union, library,
        observatory, bakery, charity, orchestra, shipyard, school, parish, market, foundry,
        studio""",
    "also": """
        keeps bees, coaches a village team, plays the concertina, writes letters to editors,
        mentors apprentices, grows heritage beans, swims before dawn, argues about spelling,
        builds model locomotives, sings bass, hosts a podcast, cares for a parent, bakes at
        weekends, answers strangers' questions online, studies law by night, volunteers as a
        lifeguard, raises two teenagers, repairs accordions, collects railway tickets, learns
        Georgian, walks everywhere, organizes quiz evenings, keeps a weather diary, cycles to
        every meeting, translates poems, judges dog shows, restores a narrowboat, runs a repair
        cafe, fears lifts, refuses to own a telephone, plants hedges, campaigns for slower
        traffic, paints miniatures""",
    "reason": """
        to settle an old family quarrel, for a travelling exhibition, before the records rot,
        because nobody else will, to pay for evening classes, in memory of a grandmother, for
        people who cannot read maps, so that apprentices make fewer mistakes, on a tight budget,
        while waiting for a pension, to win back lost customers, for a regional court, against
        the advice of colleagues, to prove an old theory wrong, without any public money, for the
        pleasure of getting it right, since the factory closed, in three languages, between two
        long shifts, to keep a small village alive, for a sceptical committee, with borrowed
        instruments, after a career at sea, to finish what a teacher began""",
    "years": """
        two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty""",
}  # fmt: skip

SYLLABLES = """
    ba ber bran cal cor dal den dor el fen fer gal gor hal har im jor kel kin lan lor mar mel
    mon nar nel or pel per quin ral ren sal sel tam ter tor ul val ven wen wil yar zel"""
ENDINGS = "ing ist ton ite age ery ward ling ment field smith wick stone ology craft"

SCHEMA = pa.schema(
    [
        ("persona_id", pa.string()),
        ("persona", pa.string()),
        ("origin", pa.int64()),
        ("edit", pa.string()),
    ]
)
TAIL = "word"
"""The slot of the long tail."""


class Sentence(NamedTuple):
    """One row before it has an id; `origin` is shared by a base sentence and its copies."""

    words: list[str]
    origin: int
    edit: str


class Vocabulary(NamedTuple):
    """What a slot is filled with: each list with cumulative weights."""

    choices: dict[str, list[str]]
    weights: dict[str, list[float]]
    source: str


def build_vocabulary(leads: Path | None) -> Vocabulary:
    """The lists above, and the long tail: words of the Wikipedia leads, most frequent first."""
    matches = read_words(leads) if leads and leads.exists() else []
    invented = dict.fromkeys(invent_words(TAIL_WORDS))
    tail = list(dict.fromkeys([*matches, *invented]))[:TAIL_WORDS]
    choices = {name: split_list(text) for name, text in LISTS.items()} | {TAIL: tail}
    weights = {name: list(accumulate(1.0 for _ in items)) for name, items in choices.items()}
    weights[TAIL] = list(
        accumulate((rank + ZIPF_SHIFT) ** -ZIPF_EXPONENT for rank in range(len(tail)))
    )
    found_count = len(set(tail).intersection(matches))
    source = f"made from {len(tail):,} words, {found_count:,} of them of Wikipedia leads"
    return Vocabulary(choices, weights, source)


def split_list(text: str) -> list[str]:
    """The entries of a list: between commas where there are any."""
    entries = text.split(",") if "," in text else text.split()
    return [" ".join(entry.split()) for entry in entries]


def read_words(leads: Path) -> list[str]:
    """The lower-case words of the extracts, by frequency; the 150 commonest say nothing."""
    counts: Counter[str] = Counter()
    for lead in json.loads(leads.read_bytes()).values():
        counts.update(re.findall(r"\b[a-z]{4,}\b", lead.get("extract") or ""))
    return [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))][150:]


def invent_words(count: int) -> Iterator[str]:
    """Compounds of syllables, the same ones every time."""
    rng = Random("compounds")  # noqa: S311 - not secret
    syllables, endings = split_list(SYLLABLES), split_list(ENDINGS)
    for _ in range(2 * count):
        yield "".join(rng.choices(syllables, k=rng.choice((2, 2, 3)))) + rng.choice(endings)


def draw(rng: Random, items: Sequence[str], weights: Sequence[float]) -> Iterator[str]:
    """An endless stream of choices, made 500 at a time."""
    while True:
        yield from rng.choices(items, cum_weights=weights, k=500)


class Writer:
    """Makes sentences from streams of random choices; two seeds give two streams."""

    def __init__(self, vocabulary: Vocabulary, seed: str) -> None:
        """Open one stream per slot."""
        self.rng = Random(seed)  # noqa: S311 - not secret
        self._slots = {
            name: draw(self.rng, items, vocabulary.weights[name])
            for name, items in vocabulary.choices.items()
        }
        self._shapes = draw(self.rng, list(SHAPES), list(accumulate(SHAPES.values())))
        self._edits = draw(self.rng, list(EDITS), list(accumulate(EDITS.values())))

    def __getitem__(self, slot: str) -> str:
        """The next filler of a slot: what `str.format_map` asks for."""
        return next(self._slots[slot])

    def write(self) -> list[str]:
        """The words of a new sentence."""
        text = next(self._shapes).format_map(self)  # type: ignore[arg-type] # only [] is asked
        if self.rng.random() < ACCENT_CHANCE:
            text += f" of {self['accented']}"
        return with_articles(text.split())

    def vary(self, template: list[str]) -> list[str]:
        """A hot template with half of its longer words replaced."""
        words = template.copy()
        places = [place for place, word in enumerate(words) if len(word) > LONG_WORD]
        for place in self.rng.sample(places, len(places) // 2):
            words[place] = self[TAIL]
        return words

    def edit(self, words: list[str]) -> tuple[list[str], str]:
        """A near-duplicate, and what was done to it."""
        name = next(self._edits)
        copy = words.copy()
        if name == "case":
            copy = self._change_case(copy)
        elif name == "reorder":
            cut = self.rng.randrange(1, len(copy))
            copy = copy[cut:] + copy[:cut]
        elif name != "exact":
            for _ in range(int(name[-1])):
                self._edit_word(copy, name[:-1])
        return copy, name

    def _change_case(self, words: list[str]) -> list[str]:
        spelling = self.rng.choice((str.lower, str.title, str.upper))
        ending = self.rng.choice((".", "!", ""))
        return f"{spelling(' '.join(words))}{ending}".split()

    def _edit_word(self, words: list[str], name: str) -> None:
        kind = self.rng.choice(("insert", "delete", "substitute")) if name == "mixed" else name
        place = self.rng.randrange(1, len(words))
        if kind == "insert":
            words.insert(place, self[self.rng.choice(("adjective", TAIL))])
        elif kind == "substitute":
            words[place] = self[TAIL]
        elif len(words) > SHORTEST:
            del words[place]


def with_articles(words: list[str]) -> list[str]:
    """`a` before a vowel becomes `an`."""
    for place, (word, following) in enumerate(pairwise(words)):
        if word in ("a", "A") and following[0] in "aeiou":
            words[place] = f"{word}n"
    return words


class Recipe(NamedTuple):
    """What all blocks of a file share."""

    vocabulary: Vocabulary
    hot: list[list[str]]
    seed: int


def build_block(recipe: Recipe, number: int, rows: int) -> pa.Table:
    """The rows of one block, shuffled."""
    writer = Writer(recipe.vocabulary, f"{recipe.seed}/{number}")
    sentences: list[Sentence] = []
    while len(sentences) < rows:
        is_hot = writer.rng.random() < HOT_CHANCE
        words = writer.vary(writer.rng.choice(recipe.hot)) if is_hot else writer.write()
        sentences += iter_group(writer, words, number * BLOCK + len(sentences))
    del sentences[rows:]
    writer.rng.shuffle(sentences)
    columns = {
        "persona_id": [f"{recipe.seed}-{number * BLOCK + place}" for place in range(rows)],
        "persona": [" ".join(sentence.words) for sentence in sentences],
        "origin": [sentence.origin for sentence in sentences],
        "edit": [sentence.edit for sentence in sentences],
    }
    return pa.table(columns, schema=SCHEMA)


def iter_group(writer: Writer, words: list[str], origin: int) -> Iterator[Sentence]:
    """A sentence and, for some, its copies and copies of copies."""
    yield Sentence(words, origin, "base")
    if writer.rng.random() >= GROUP_CHANCE:
        return
    latest = words
    for _ in range(min(int(writer.rng.paretovariate(COPY_TAIL)), MOST_COPIES)):
        is_chained = writer.rng.random() < CHAIN_CHANCE
        latest, edit = writer.edit(latest if is_chained else words)
        yield Sentence(latest, origin, edit)


def write_personas(path: Path, rows: int, seed: int, leads: Path | None = None) -> str:
    """Write the Parquet file, one row group a block, and say which vocabulary was used."""
    vocabulary = build_vocabulary(leads or find_leads())
    hot_writer = Writer(vocabulary, "hot templates")
    recipe = Recipe(vocabulary, [hot_writer.write() for _ in range(HOT_TEMPLATES)], seed)
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as file:
        for number, start in enumerate(range(0, rows, BLOCK)):
            file.write_table(build_block(recipe, number, min(BLOCK, rows - start)))
    return vocabulary.source


def find_leads() -> Path:
    """Where the project caches the English leads; they are not fetched for this."""
    return cached_path("wikipedia-en")


def main() -> None:
    """The command line: a file of personas."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="where the Parquet file goes")
    parser.add_argument("--rows", type=int, default=BLOCK)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(write_personas(options.path, options.rows, options.seed))


if __name__ == "__main__":
    main()
