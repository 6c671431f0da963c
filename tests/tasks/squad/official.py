"""Files in SQuAD's official layout, with invented texts."""

import json
from pathlib import Path
from random import Random

ISLANDS = (
    "Marrow Point",
    "Gull Rock",
    "Côte Brune",
    "Skær Holm",
    "Little Tarn",
    "Ember Isle",
    "North Fennel",
    "Old Wick",
)
FACTS = {
    "keeper": ("Ada Finch", "Tom Brandt", "Lise Okafor", "Old Mister Plum"),
    "colour of the tower": ("deep red", "white", "green and grey", "sun-bleached yellow"),
    "height of the lamp": ("forty-two metres", "9.5 metres", "thirty feet", "a hundred steps"),
    "favourite soup": ("leek soup", "a broth of mussels", "cold beetroot", "barley with carrots"),
    "winter guest": ("a lame heron", "two otters", "the postman's aunt", "nobody"),
}
FILLER = (
    "Most days the wind blows from the west, and the boats stay where they are.",
    "Visitors are welcome on Sundays, but few of them find the path.",
    "The well behind the house never froze, not even in the long winter.",
    "Some say the bell rings by itself; others have oiled it.",
)
UNKNOWN = ("owner's debt", "name of the dog", "price of a ticket")
PARAGRAPHS_PER_ARTICLE = 2
QUESTIONS_PER_PARAGRAPH = 5


def write_squad(directory, version="1.1", num_questions=40):
    """Write `train-v*.json` and `dev-v*.json`; every second paragraph is long, v2.0 asks for what is not told."""
    for seed, part in enumerate(("train", "dev")):
        tree = {"version": version, "data": _articles(part, version, num_questions, Random(seed))}
        text = json.dumps(tree, ensure_ascii=False)
        Path(directory, f"{part}-v{version}.json").write_text(text, encoding="utf-8")
    return Path(directory)


def _articles(part, version, num_questions, rng):
    paragraphs = []
    for first in range(0, num_questions, QUESTIONS_PER_PARAGRAPH):
        number = len(paragraphs)
        island = ISLANDS[number % len(ISLANDS)]
        context, told = _story(island, rng, is_long=number % 2 == 1)
        count = min(QUESTIONS_PER_PARAGRAPH, num_questions - first)
        qas = [_asked(f"{part}-{first + i}", island, list(FACTS)[i], i, context, told, version) for i in range(count)]
        paragraphs.append({"context": context, "qas": qas})
    chunks = range(0, len(paragraphs), PARAGRAPHS_PER_ARTICLE)
    return [{"title": f"Islands_{i}", "paragraphs": paragraphs[i : i + PARAGRAPHS_PER_ARTICLE]} for i in chunks]


def _story(island, rng, is_long):
    told, sentences = {}, [f"{island} has a lighthouse."]
    for fact, values in FACTS.items():
        told[fact] = rng.choice(values)
        sentences.append(f"There the {fact} is {told[fact]}.")
        if is_long:
            sentences.append(rng.choice(FILLER))
    return " ".join(sentences), told


def _asked(id_, island, fact, i, context, told, version):
    start = context.index(f"the {fact} is ") + len(f"the {fact} is ")
    answers = [{"text": told[fact], "answer_start": start}]
    if id_.startswith("dev"):  # several people were asked
        answers += [answers[0], {"text": told[fact].split()[0], "answer_start": start}]
    row = {"id": id_, "question": f" What is the {fact} of {island}?", "answers": answers}
    if version == "1.1":
        return row
    if i % 3 != 1:
        return row | {"is_impossible": False}
    question = f"What is the {UNKNOWN[i % len(UNKNOWN)]} of {island}?"
    return row | {"question": question, "answers": [], "plausible_answers": answers, "is_impossible": True}
