"""A synthetic acceptability task in the spirit of CoLA, written by a small English grammar.

    from autolora.data.grammar import acceptability
    splits = acceptability(seed=0, train=4000, validation=1000)   # {"train": [Judgement, ...], "validation": [...]}

Sentences come as minimal pairs: an acceptable one and a partner that one change makes unacceptable. Five phenomena
take equal shares: agreement (subject and verb), anaphora (reflexives), argument structure (verbs with and without an
object), determiners (with singular and plural nouns) and word order (two neighbors change places). The word that
changes is as frequent in acceptable sentences as in unacceptable ones, since the label is the exclusive-or of two
features of the sentence: counting words says nothing about it, and a model has to relate words to beat chance.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LABELS = ("unacceptable", "acceptable")
MAX_PAIRS = 20_000  # far below what the grammar can write, so that drawing unseen pairs stays quick


@dataclass(frozen=True)
class Judgement:
    """One sentence; the two sentences of a minimal pair have the same `pair` number."""

    sentence: str
    label: int  # index into LABELS
    phenomenon: str
    pair: int


@dataclass(frozen=True)
class _Frame:
    """A minimal pair before it is written out: the text around one slot, and the word on either side of the law."""

    before: str
    good: str
    bad: str
    after: str

    def sentences(self) -> tuple[str, str]:
        """The acceptable and the unacceptable sentence."""
        return _write(self.before, self.good, self.after), _write(self.before, self.bad, self.after)


# Words --------------------------------------------------------------------------------------------------------------
# Nouns are countable with a plural of their own; no verb in a list also fits the other lists' frames.
_MEN = "king boy man actor prince waiter father uncle brother gentleman"
_WOMEN = "queen girl woman actress princess waitress mother aunt sister lady"
_MALE_NAMES = "John Robert Peter Thomas David James"
_FEMALE_NAMES = "Mary Susan Anna Laura Emma Alice"
_PEOPLE = "doctor teacher lawyer pilot student farmer artist singer neighbor child baker driver soldier thief engineer"
_ANIMALS = "dog cat horse rabbit wolf parrot monkey tiger bear lion elephant puppy"
_THINGS = "box ladder bicycle lamp bottle hammer mirror basket blanket letter camera suitcase vase chair table apple"
_PERSON_ADJECTIVES = "young old tall quiet clever brave lazy angry cheerful famous"
_THING_ADJECTIVES = "small large old heavy broken expensive red green dirty new"
_MOODS = "hungry calm happy sad ready afraid busy sick awake thirsty"
_STATES = "cheap rusty valuable clean damaged missing wet dusty cold gone"

_INTRANSITIVE = "sleep arrive laugh smile sneeze cough yawn vanish faint snore hesitate kneel weep tremble wait"
_TRANSITIVE = "carry lift repair find damage destroy grab fetch discover describe mention remove obtain ruin bring make"
_REFLEXIVE_VERBS = "admire blame injure praise trust defend teach describe comfort protect embarrass warn hurt"
_IRREGULAR = {
    **{"man": "men", "woman": "women", "gentleman": "gentlemen"},
    **{"child": "children", "wolf": "wolves", "thief": "thieves"},
}
_IRREGULAR_PAST = {
    **{"sleep": "slept", "kneel": "knelt", "weep": "wept", "find": "found", "grab": "grabbed"},
    **{"bring": "brought", "make": "made", "teach": "taught", "hurt": "hurt"},
}

_OWNERS = ("the", "the", "the", "my", "our", "your", "their")  # determiners without number
_MODALS = ("will", "can", "should", "must", "might")
_MANNERS = ("quietly", "suddenly", "slowly", "quickly", "eagerly", "secretly", "nervously", "carefully")
_FREQUENCIES = ("often", "always", "never", "usually", "rarely", "sometimes")
_NEAR = ("near", "behind", "beside", "next to", "opposite", "in front of")
_PLACES = (
    *("in the garden", "at home", "in the kitchen", "at school", "on the bridge", "in the park", "by the river"),
    *("at the station", "in the library", "on the beach", "outside", "upstairs", "in the museum", "at the market"),
)
_TIMES = ("yesterday", "last night", "last week", "on Monday", "after lunch", "before dinner", "in the morning")
_REPORTS = ("said", "thought", "believed", "claimed", "knew", "heard")
_DETERMINERS = (("this", "these"), ("that", "those"), ("a", "several"), ("every", "many"), ("one", "two"))
_COPULAS = (("is", "are"), ("was", "were"), ("seems", "seem"), ("looks", "look"))
_REFLEXIVES = {"male": "himself", "female": "herself", "plural": "themselves"}


def _s(word: str) -> str:
    """The plural of a noun, and the third person singular of a verb."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + ("es" if re.search(r"(s|x|ch|sh)$", word) else "s")


def _past(verb: str) -> str:
    """The past tense, which is also the participle for every verb above."""
    if verb in _IRREGULAR_PAST:
        return _IRREGULAR_PAST[verb]
    if re.search(r"[^aeiou]y$", verb):
        return verb[:-1] + "ied"
    return verb + ("d" if verb.endswith("e") else "ed")


def _write(*parts: str) -> str:
    """Joins the parts to a sentence: single spaces, a or an by the next letter, a capital and a full stop."""
    text = re.sub(r"\ba (?=[aeiou])", "an ", " ".join(" ".join(parts).split()))
    return text[0].upper() + text[1:] + "."


# Phrases ------------------------------------------------------------------------------------------------------------
def _pick(rng: random.Random, words: str) -> str:
    return rng.choice(words.split())


def _maybe(rng: random.Random, share: float, options: Sequence[str]) -> str:
    """One of the options, or nothing in all but `share` of the cases."""
    return rng.choice(options) if rng.random() < share else ""


def _noun(rng: random.Random, nouns: str, plural: bool) -> str:
    """A noun in the number asked for, with an adjective in some cases."""
    adjectives = _THING_ADJECTIVES if nouns == _THINGS else _PERSON_ADJECTIVES
    noun = _pick(rng, nouns)
    return f"{_maybe(rng, 0.25, adjectives.split())} {_s(noun) if plural else noun}"


def _phrase(rng: random.Random, nouns: str, plural: bool | None = None) -> str:
    """A noun phrase whose determiner goes with both numbers; its number is drawn where none is given."""
    chosen = rng.random() < 0.5 if plural is None else plural
    return f"{rng.choice(_OWNERS)} {_noun(rng, nouns, chosen)}"


def _near(rng: random.Random, share: float, nouns: str) -> str:
    """A prepositional phrase after the subject, whose noun is an attractor for what follows."""
    return f"{rng.choice(_NEAR)} {_phrase(rng, nouns)}" if rng.random() < share else ""


def _tense(rng: random.Random) -> tuple[str, Callable[[str], str], str]:
    """What stands before the verb, the verb's form, and an adverbial that goes with the tense."""
    aux, manner = rng.choice(("", "", "had", "modal")), _maybe(rng, 0.12, _MANNERS)
    if aux == "modal":
        return f"{rng.choice(_MODALS)} {manner}", str, _maybe(rng, 0.35, _PLACES)
    return f"{aux} {manner}", _past, _maybe(rng, 0.35, _PLACES if rng.random() < 0.5 else _TIMES)


# Phenomena ----------------------------------------------------------------------------------------------------------


def _agreement(rng: random.Random) -> _Frame:
    """The verb agrees with the head of the subject, whatever noun stands between them."""
    plural = rng.random() < 0.5
    nouns = rng.choice((_PEOPLE, _ANIMALS, _THINGS))
    if nouns != _THINGS and rng.random() < 0.5:
        subject = rng.choice(("they", "we") if plural else ("he", "she"))
    else:
        subject = f"{_phrase(rng, nouns, plural)} {_between(rng, nouns)}"
    adverb = _maybe(rng, 0.1, _FREQUENCIES)
    singular_form, plural_form, after = _predicate(rng, nouns)
    good, bad = (plural_form, singular_form) if plural else (singular_form, plural_form)
    if singular_form in ("is", "was", "has"):
        return _Frame(subject, good, bad, f"{adverb} {after}")
    return _Frame(f"{subject} {adverb}", good, bad, after)


def _between(rng: random.Random, nouns: str) -> str:
    """What separates the head of a subject from its verb: nothing, a prepositional phrase or a relative clause."""
    past = _past(_pick(rng, _TRANSITIVE))
    clauses = {_THINGS: f"that {_phrase(rng, _PEOPLE)} {past}", _PEOPLE: f"who {past} {_phrase(rng, _THINGS)}"}
    if nouns in clauses and rng.random() < 0.05:
        return clauses[nouns]
    return _near(rng, 0.2, nouns)


def _predicate(rng: random.Random, nouns: str) -> tuple[str, str, str]:
    """The singular and the plural verb form, and what follows them."""
    if nouns == _THINGS or rng.random() < 0.5:
        return *rng.choice(_COPULAS), _pick(rng, _STATES if nouns == _THINGS else _MOODS)
    verb, place = _pick(rng, _INTRANSITIVE), _maybe(rng, 0.35, _PLACES)
    if rng.random() < 0.25:
        return "has", "have", f"{_past(verb)} {place}"
    return _s(verb), verb, place


def _anaphora(rng: random.Random) -> _Frame:
    """A reflexive has the gender and the number of its own clause's subject."""
    gender, other = rng.sample(("male", "female"), 2)
    features = [gender, rng.choice((other, "plural"))]
    rng.shuffle(features)  # either one is as often right as wrong, which keeps each reflexive balanced
    right, wrong = features
    subject = _antecedent(rng, right, gender)
    if rng.random() < 0.12:
        subject = f"{_antecedent(rng, wrong, gender)} {rng.choice(_REPORTS)} that {subject}"
    elif subject not in ("he", "she", "they"):
        subject = f"{subject} {_near(rng, 0.1, _PEOPLE)}"
    before, form, after = _tense(rng)
    before = f"{subject} {before} {form(_pick(rng, _REFLEXIVE_VERBS))}"
    return _Frame(before, _REFLEXIVES[right], _REFLEXIVES[wrong], after)


def _antecedent(rng: random.Random, feature: str, gender: str) -> str:
    """A pronoun, name or noun phrase that `feature` describes; a plural noun is of `gender`."""
    if rng.random() < 0.3:
        return {"male": "he", "female": "she", "plural": "they"}[feature]
    if feature == "plural":
        return _phrase(rng, _MEN if gender == "male" else _WOMEN, plural=True)
    if rng.random() < 0.35:
        return _pick(rng, _MALE_NAMES if feature == "male" else _FEMALE_NAMES)
    return _phrase(rng, _MEN if feature == "male" else _WOMEN, plural=False)


def _argument_structure(rng: random.Random) -> _Frame:
    """Some verbs need an object and some forbid one."""
    before, form, after = _tense(rng)
    subject = f"{_phrase(rng, _PEOPLE)} {_near(rng, 0.1, _PEOPLE)} {before}"
    needs, forbids = form(_pick(rng, _TRANSITIVE)), form(_pick(rng, _INTRANSITIVE))
    if rng.random() < 0.5:
        return _Frame(subject, needs, forbids, f"{_phrase(rng, _THINGS)} {after}")
    return _Frame(subject, forbids, needs, after)


def _determiners(rng: random.Random) -> _Frame:
    """A determiner has the number of its noun, in the subject as in the object."""
    plural = rng.random() < 0.5
    bad, good = rng.choice(_DETERMINERS) if plural else reversed(rng.choice(_DETERMINERS))
    before, form, after = _tense(rng)
    if rng.random() < 0.5:
        verb = form(_pick(rng, _INTRANSITIVE))
        subject = f"{_noun(rng, rng.choice((_PEOPLE, _ANIMALS)), plural)} {_near(rng, 0.1, _ANIMALS)}"
        return _Frame("", good, bad, f"{subject} {before} {verb} {after}")
    verb = form(_pick(rng, _TRANSITIVE))
    return _Frame(f"{_phrase(rng, _PEOPLE)} {before} {verb}", good, bad, f"{_noun(rng, _THINGS, plural)} {after}")


def _word_order(rng: random.Random) -> _Frame:
    """No two neighbors in a clause can change places."""
    words = f"{_phrase(rng, rng.choice((_PEOPLE, _ANIMALS)))} {rng.choice(_MODALS)}".split()
    if rng.random() < 0.5:
        words.append(_pick(rng, _INTRANSITIVE))
    else:
        words += [_pick(rng, _TRANSITIVE), *_phrase(rng, _THINGS).split()]
    at = rng.randrange(len(words) - 1)
    first, second = words[at : at + 2]
    return _Frame(" ".join(words[:at]), f"{first} {second}", f"{second} {first}", " ".join(words[at + 2 :]))


_GRAMMAR: dict[str, Callable[[random.Random], _Frame]] = {
    "agreement": _agreement,
    "anaphora": _anaphora,
    "argument_structure": _argument_structure,
    "determiners": _determiners,
    "word_order": _word_order,
}
PHENOMENA = tuple(_GRAMMAR)


# The data set -------------------------------------------------------------------------------------------------------


def generate(seed: int = 0, pairs: int = 3000) -> list[Judgement]:
    """Minimal pairs one after the other, no sentence twice.

    Every block of five pairs has all five phenomena, and which sentence of a pair comes first is drawn.
    """
    if not 1 <= pairs <= MAX_PAIRS:
        raise ValueError(f"pairs must be between 1 and {MAX_PAIRS}, got {pairs}")
    rng, seen = random.Random(seed), set[str]()
    examples: list[Judgement] = []
    order: list[str] = []
    for pair in range(pairs):
        order = order or rng.sample(PHENOMENA, len(PHENOMENA))
        phenomenon = order.pop()
        good, bad = _unseen(rng, phenomenon, seen)
        both = [Judgement(good, 1, phenomenon, pair), Judgement(bad, 0, phenomenon, pair)]
        rng.shuffle(both)
        examples += both
    return examples


def _unseen(rng: random.Random, phenomenon: str, seen: set[str]) -> tuple[str, str]:
    """A pair of the phenomenon, three words or more, with two sentences not in `seen`; it adds them there."""
    while True:
        sentences = _GRAMMAR[phenomenon](rng).sentences()
        if seen.isdisjoint(sentences) and sentences[0].count(" ") >= 2:
            seen.update(sentences)
            return sentences


def acceptability(seed: int = 0, train: int = 4000, validation: int = 1000) -> dict[str, list[Judgement]]:
    """The task as two splits of so many sentences, both of every pair in the same split."""
    for name, size in (("train", train), ("validation", validation)):
        if size < 2 or size % 2:
            raise ValueError(f"{name} must be an even number of sentences, at least 2 (they come in pairs), got {size}")
    if train + validation > 2 * MAX_PAIRS:
        raise ValueError(f"train + validation must be at most {2 * MAX_PAIRS} sentences, got {train + validation}")
    examples = generate(seed, (train + validation) // 2)
    return {"train": examples[:train], "validation": examples[train:]}
