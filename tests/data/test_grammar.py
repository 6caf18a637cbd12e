"""The synthetic acceptability task: well-formed splits, right labels, and no way to the label by counting words."""

import random
from collections import Counter, defaultdict
from itertools import combinations, pairwise

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from autolora.data import grammar
from autolora.data.grammar import LABELS, PHENOMENA, Judgement, acceptability, generate

Splits = dict[str, list[Judgement]]


@pytest.fixture(scope="module")
def splits() -> Splits:
    return acceptability(seed=0)


def everything(splits: Splits) -> list[Judgement]:
    return [example for examples in splits.values() for example in examples]


def words(sentence: str) -> list[str]:
    return sentence.rstrip(".").lower().split()


def word_pairs(sentence: str) -> list[str]:
    """Every ordered pair of words, neighbors marked: the interactions that a count of words cannot see."""
    text = words(sentence)
    return [f"{a} {b}" for a, b in pairwise(text)] + [f"{a}_{b}" for a, b in combinations(text, 2)]


def predictions(splits: Splits, features) -> list[int]:
    """What a logistic regression over the features says of the validation split after the training split."""
    model = make_pipeline(CountVectorizer(analyzer=features), LogisticRegression(max_iter=500))
    model.fit([e.sentence for e in splits["train"]], [e.label for e in splits["train"]])
    return list(model.predict([e.sentence for e in splits["validation"]]))


def accuracy(predicted: list[int], examples: list[Judgement]) -> float:
    return sum(guess == e.label for guess, e in zip(predicted, examples, strict=True)) / len(examples)


# Splits


def test_the_splits_have_the_sizes_asked_for(splits):
    assert {name: len(examples) for name, examples in splits.items()} == {"train": 4000, "validation": 1000}
    assert {name: len(examples) for name, examples in acceptability(1, 6, 2).items()} == {"train": 6, "validation": 2}


def test_no_sentence_occurs_twice_in_or_across_splits(splits):
    sentences = [e.sentence for e in everything(splits)]
    assert len(set(sentences)) == len(sentences)


def test_both_sentences_of_a_pair_are_in_one_split_with_opposite_labels(splits):
    for examples in splits.values():
        by_pair = defaultdict(list)
        for example in examples:
            by_pair[example.pair].append(example)
        for pair in by_pair.values():
            assert sorted(e.label for e in pair) == [0, 1]
            assert len({e.phenomenon for e in pair}) == 1
    assert {e.pair for e in splits["train"]}.isdisjoint(e.pair for e in splits["validation"])


def test_every_phenomenon_has_its_share_of_every_split_in_both_labels(splits):
    for examples in splits.values():
        shares = Counter((e.phenomenon, e.label) for e in examples)
        assert set(shares) == {(phenomenon, label) for phenomenon in PHENOMENA for label in range(len(LABELS))}
        assert set(shares.values()) == {len(examples) // len(shares)}


def test_the_order_of_a_pair_does_not_give_the_label_away(splits):
    first = Counter(e.label for e in splits["train"][::2])
    assert 0.45 < first[1] / sum(first.values()) < 0.55


def test_the_same_seed_writes_the_same_examples_and_another_seed_writes_others():
    assert repr(generate(7, 200)) == repr(generate(7, 200))
    shared = {e.sentence for e in generate(7, 200)} & {e.sentence for e in generate(8, 200)}
    assert len(shared) < 20


def test_a_longer_run_begins_with_the_shorter_one():
    assert generate(3, 300)[:200] == generate(3, 100)


def test_the_draw_does_not_touch_the_global_generator():
    random.seed(0)
    before = random.getstate()
    generate(0, 50)
    assert random.getstate() == before


def test_the_largest_size_can_be_written():
    assert len({e.sentence for e in generate(0, grammar.MAX_PAIRS)}) == 2 * grammar.MAX_PAIRS


@pytest.mark.parametrize("pairs", [0, -1, grammar.MAX_PAIRS + 1])
def test_an_impossible_number_of_pairs_is_refused_with_the_number(pairs):
    with pytest.raises(ValueError, match=f"pairs must be between 1 and 20000, got {pairs}"):
        generate(0, pairs)


@pytest.mark.parametrize(("name", "size"), [("train", 0), ("train", 7), ("validation", -2), ("validation", 3)])
def test_an_impossible_split_size_is_refused_with_its_name_and_the_number(name, size):
    with pytest.raises(ValueError, match=rf"{name} must be an even number .*, got {size}"):
        acceptability(**{name: size})


def test_more_sentences_than_the_grammar_gives_are_refused():
    with pytest.raises(ValueError, match=r"train \+ validation must be at most 40000 sentences, got 40002"):
        acceptability(train=40_000, validation=2)


# Sentences


def test_sentences_look_like_sentences(splits):
    for example in everything(splits):
        assert example.sentence[0].isupper()
        assert example.sentence.endswith(".")
        assert example.sentence.count(".") == 1
        assert "  " not in example.sentence
        assert " ." not in example.sentence
        assert 3 <= len(example.sentence.split()) <= 16


def test_the_indefinite_article_fits_the_next_letter(splits):
    for example in everything(splits):
        for article, following in pairwise(words(example.sentence)):
            if article in ("a", "an"):
                assert (article == "an") == (following[0] in "aeiou"), example.sentence


def test_the_vocabulary_has_a_few_hundred_words(splits):
    assert 250 < len({word for e in everything(splits) for word in words(e.sentence)}) < 800


def test_a_pair_differs_in_one_place(splits):
    by_pair = defaultdict(list)
    for example in everything(splits):
        by_pair[example.pair].append(words(example.sentence))
    order = {e.pair for e in everything(splits) if e.phenomenon == "word_order"}
    for pair, (one, other) in by_pair.items():
        assert len(one) == len(other)
        assert sum(a != b for a, b in zip(one, other, strict=True)) == (2 if pair in order else 1), (one, other)


@pytest.mark.parametrize(
    ("verb", "third", "past"),
    [
        *[("laugh", "laughs", "laughed"), ("carry", "carries", "carried"), ("teach", "teaches", "taught")],
        *[("make", "makes", "made"), ("sleep", "sleeps", "slept"), ("arrive", "arrives", "arrived")],
    ],
)
def test_verbs_are_inflected(verb, third, past):
    assert (grammar._s(verb), grammar._past(verb)) == (third, past)


@pytest.mark.parametrize(
    ("singular", "plural"),
    [
        *[("dog", "dogs"), ("lady", "ladies"), ("box", "boxes"), ("actress", "actresses"), ("monkey", "monkeys")],
        *[("child", "children"), ("wolf", "wolves"), ("woman", "women")],
    ],
)
def test_nouns_have_their_plural(singular, plural):
    assert grammar._s(singular) == plural


# Labels: each judge below knows one rule of English and is right about every sentence of a simple shape.

PLURALS = {"they", "we"} | {
    grammar._s(noun)
    for nouns in (grammar._MEN, grammar._WOMEN, grammar._PEOPLE, grammar._ANIMALS, grammar._THINGS)
    for noun in nouns.split()
}
SINGULAR_DETERMINERS = {"this", "that", "a", "an", "every", "one"}
PLURAL_DETERMINERS = {"these", "those", "several", "many", "two"}
NOUNS = PLURALS | {
    noun
    for nouns in (grammar._MEN, grammar._WOMEN, grammar._PEOPLE, grammar._ANIMALS, grammar._THINGS)
    for noun in [*nouns.split(), "he", "she"]
}
INTRANSITIVES = {form(verb) for verb in grammar._INTRANSITIVE.split() for form in (str, grammar._past)}
TRANSITIVES = {form(verb) for verb in grammar._TRANSITIVE.split() for form in (str, grammar._past)}
SINGULAR_VERBS = {"is", "was", "has", "seems", "looks"} | {grammar._s(verb) for verb in grammar._INTRANSITIVE.split()}
PLURAL_VERBS = {"are", "were", "have", "seem", "look"} | set(grammar._INTRANSITIVE.split())


def agrees(text: list[str]) -> bool:
    """The first noun is the head of the subject; the first present tense verb is its verb."""
    plural = next(word in PLURALS for word in text if word in NOUNS)
    return plural == next(word in PLURAL_VERBS for word in text if word in SINGULAR_VERBS | PLURAL_VERBS)


def determined(text: list[str]) -> bool:
    """The noun after the first determiner with a number has that number."""
    at = next(i for i, word in enumerate(text) if word in SINGULAR_DETERMINERS | PLURAL_DETERMINERS)
    return (text[at] in PLURAL_DETERMINERS) == next(word in PLURALS for word in text[at:] if word in NOUNS)


def has_its_arguments(text: list[str]) -> bool:
    """A thing after the verb is its object."""
    verb = next(i for i, word in enumerate(text) if word in INTRANSITIVES | TRANSITIVES)
    things = {form(noun) for noun in grammar._THINGS.split() for form in (str, grammar._s)}
    return (text[verb] in TRANSITIVES) == any(word in things for word in text[verb:])


def binds(text: list[str]) -> bool:
    """The subject of the innermost clause has the gender and number of the reflexive."""
    clause = text[text.index("that") + 1 :] if "that" in text else text
    head = next(word for word in clause if word in NOUNS or word in names)
    return text[next(i for i, word in enumerate(text) if word.endswith(("self", "selves")))] == names.get(
        head, "themselves"
    )


names = {word.lower(): "himself" for word in [*grammar._MEN.split(), *grammar._MALE_NAMES.split(), "he"]} | {
    word.lower(): "herself" for word in [*grammar._WOMEN.split(), *grammar._FEMALE_NAMES.split(), "she"]
}
JUDGES = {
    "agreement": agrees,
    "anaphora": binds,
    "argument_structure": has_its_arguments,
    "determiners": determined,
}


@pytest.mark.parametrize("phenomenon", JUDGES)
def test_a_judge_that_knows_the_rule_finds_every_label(splits, phenomenon):
    for example in everything(splits):
        if example.phenomenon == phenomenon:
            assert JUDGES[phenomenon](words(example.sentence)) == bool(example.label), example


@pytest.mark.parametrize(
    ("phenomenon", "good", "bad"),
    [
        ("agreement", "The dogs near the cat are hungry.", "The dogs near the cat is hungry."),
        ("agreement", "The box that the pilots found is heavy.", "The box that the pilots found are heavy."),
        ("anaphora", "The queen blamed herself.", "The queen blamed himself."),
        ("anaphora", "The kings said that Mary hurt herself.", "The kings said that Mary hurt themselves."),
        ("argument_structure", "The teacher repaired the lamp.", "The teacher slept the lamp."),
        ("argument_structure", "The teacher slept at home.", "The teacher repaired at home."),
        ("determiners", "The child found these old lamps.", "The child found this old lamps."),
        ("determiners", "An angry dog arrived.", "Several angry dog arrived."),
    ],
)
def test_the_judges_agree_with_a_person(phenomenon, good, bad):
    assert JUDGES[phenomenon](words(good))
    assert not JUDGES[phenomenon](words(bad))


# Shortcuts


@pytest.mark.parametrize("seed", range(3))
def test_a_bag_of_words_stays_at_chance(seed):
    splits = acceptability(seed)
    predicted = predictions(splits, words)
    assert accuracy(predicted, splits["validation"]) == pytest.approx(0.5, abs=0.05)


def test_no_frequent_word_leans_to_a_label(splits):
    counts = {
        label: Counter(w for e in everything(splits) if e.label == label for w in words(e.sentence)) for label in (0, 1)
    }
    for word in counts[0] | counts[1]:
        bad, good = counts[0][word], counts[1][word]
        assert abs(good - bad) <= 4 * (good + bad) ** 0.5, (word, good, bad)


def test_sentence_length_says_nothing(splits):
    lengths = {label: Counter(len(e.sentence) > 35 for e in everything(splits) if e.label == label) for label in (0, 1)}
    assert abs(lengths[0][True] - lengths[1][True]) < 100


def test_pairs_of_words_beat_the_bag_of_words_clearly(splits):
    apart = accuracy(predictions(splits, words), splits["validation"])
    together = accuracy(predictions(splits, word_pairs), splits["validation"])
    assert together > apart + 0.12
