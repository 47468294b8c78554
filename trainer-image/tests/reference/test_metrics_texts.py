"""Metrics of texts against sacrebleu, nltk, rouge_score and torchmetrics: random corpora of words that repeat, move and go
missing, of many scripts; empty, long and odd texts."""

import random

import pytest
from metric_program import agree, ask

sacrebleu = pytest.importorskip("sacrebleu")
scorer = pytest.importorskip("rouge_score.rouge_scorer")
nltk_bleu = pytest.importorskip("nltk.translate.bleu_score")
from sacrebleu.metrics import BLEU  # noqa: E402
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a  # noqa: E402

ROUGE = ["rouge1", "rouge2", "rougeL", "rougeLsum"]

PLAIN = "the a an cat sat on mat is was dog of and to said it that big small".split()
ODD = [
    "The", "don't", "it's", "3.14", "1,000", "U.S.", "e-mail", "2-3", "-", "--", "(hm)", "[x]", "\"yes\"", "&quot;", "&amp;lt;",
    "<skipped>", "a.b,c", "...", "?!", "co-\n", "\n", "\n\n", "\t", "\u00a0", "\u3000", "\u200b", "\x1c", "\x85", "日本語", "は", "。", "漢字かな",
    "👍🏽", "👨‍👩‍👧", "e\u0301", "a\u0301", "ﬁ", "ǅ", "İ", "ß", "ΟΔΟΣ", "Σ", "K", "नमस्ते", "ไทย", "مرحبا", "שלום", "Ünïcödé", "½", "²", "_", "$5", "%", "x" * 60,
]
NASTY = [
    "", " ", "\n", ".", "a", "A", "the", "The.", "the the the the", "a a a a a a", "日本語", "👍", "e\u0301", "\u0301", "É", "e-\n", "-\n-\n", "&quot;",
    "one two three", "one two three four", "four three two one", "one two three four five", "1,000.5-3", "\x00", "ǅ Σ ΟΔΟΣ",
]


def changed(words, draw):
    """As a model might answer: words go missing, come in, are replaced, and blocks move."""
    words = list(words)
    for _ in range(draw.randint(0, 6)):
        at = draw.randint(0, len(words))
        kind = draw.randrange(4)
        if kind == 0:
            del words[at : at + draw.randint(1, 3)]
        elif kind == 1:
            words[at:at] = draw.choices(PLAIN, k=draw.randint(1, 3))
        elif kind == 2 and words:
            words[at % len(words)] = draw.choice(PLAIN + ODD)
        else:
            block = words[at : at + draw.randint(1, 6)]
            del words[at : at + len(block)]
            to = draw.randint(0, len(words))
            words[to:to] = block
    return words


def corpora():
    """Lists of answers and of references."""
    for found in NASTY:
        for truth in NASTY:
            yield [found], [truth]
    draw = random.Random(23)
    for size in (1, 1, 1, 1, 1, 1, 2, 3, 5, 12):
        for vocabulary in (PLAIN[:3], PLAIN, PLAIN + ODD, ODD):
            for longest in (3, 12, 40):
                truth = [draw.choices(vocabulary, k=draw.randint(0, longest)) for _ in range(size)]
                found = [changed(words, draw) if draw.random() < 0.9 else draw.choices(PLAIN, k=5) for words in truth]
                join = draw.choice([" ", " ", " ", "\n", ""])
                yield [join.join(words) for words in found], [join.join(words) for words in truth]
    # Lines, for rougeLsum.
    for size in (1, 4):
        truth = [[" ".join(draw.choices(PLAIN, k=6)) for _ in range(5)] for _ in range(size)]
        yield ["\n".join(changed(lines, draw)) for lines in truth], ["\n".join(lines) for lines in truth]


@pytest.fixture(scope="module")
def given():
    return list(corpora())


@pytest.fixture(scope="module")
def answers(given):
    return ask([{"kind": "texts", "found": found, "truth": truth} for found, truth in given])


def test_bleu_is_that_of_sacrebleu_without_smoothing(given, answers):
    tokenize = Tokenizer13a()
    for (found, truth), ours in zip(given, answers):
        found, truth = [tokenize(text) for text in found], [tokenize(text) for text in truth]
        if not any(found) or not any(truth):
            # The script of Hugging Face divides by these lengths.
            assert "word" in ours["bleu"]["refused"], (found, truth)
            continue
        judge = BLEU(tokenize="none", smooth_method="none", force=True)
        agree(ours["bleu"], lambda: judge.corpus_score(found, [truth]).score / 100, (found, truth))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_bleu_is_that_of_nltk(given, answers):
    tokenize = Tokenizer13a()
    for (found, truth), ours in zip(given, answers):
        found, truth = [tokenize(text).split() for text in found], [tokenize(text).split() for text in truth]
        # It counts one n-gram of each order even in an answer that is too short for it.
        if all(len(one) > 3 for one in found) and any(truth):
            agree(ours["bleu"], lambda: nltk_bleu.corpus_bleu([[one] for one in truth], found), (found, truth))


def test_sacrebleu_chrf_and_ter_are_those_of_sacrebleu(given, answers):
    references = {"sacrebleu": sacrebleu.corpus_bleu, "chrf": sacrebleu.corpus_chrf, "ter": sacrebleu.corpus_ter}
    for (found, truth), ours in zip(given, answers):
        for name, reference in references.items():
            agree(ours[name], lambda: reference(found, [truth]).score, (name, found, truth))


def test_rouge_is_that_of_rouge_score(given, answers):
    judge = scorer.RougeScorer(ROUGE)
    for (found, truth), ours in zip(given, answers):
        each = [judge.score(target, prediction) for target, prediction in zip(truth, found, strict=True)]
        for name in ROUGE:
            agree(ours[name], lambda: sum(one[name].fmeasure for one in each) / len(each), (name, found, truth))


def squad(found, truth):
    text = pytest.importorskip("torchmetrics.functional.text")

    def score(found, truth):
        prediction = {"id": "1", "prediction_text": found}
        return float(text.squad(prediction, {"id": "1", "answers": {"answer_start": [0], "text": [truth]}})["f1"])

    # Of no words and no words it says 100, as SQuAD 2.0 does for questions without an answer; SQuAD 1.1 says 0.
    return 0.0 if score("", truth) == 100 else score(found, truth)


def test_squad_f1_is_that_of_torchmetrics(given, answers):
    for (found, truth), ours in zip(given, answers):
        theirs = sum(map(squad, found, truth)) / len(truth)
        # It counts to 100 in 32 bits.
        assert ours["squad_f1"] == pytest.approx(theirs, rel=1e-6, abs=1e-5), (found, truth)


def test_an_exact_match_is_that_of_evaluate(given, answers):
    # lm-evaluation-harness carries its code; evaluate itself would fetch it.
    reference = pytest.importorskip("lm_eval.api.metrics").exact_match_hf_evaluate
    for (found, truth), ours in zip(given, answers):
        agree(ours["exact_match"], lambda: sum(map(str.__eq__, found, truth)) / len(truth), (found, truth))
        # numpy's texts end at their last character that is not NUL.
        if not any(text.endswith("\x00") for text in found + truth):
            agree(ours["exact_match"], lambda: reference(found, truth)["exact_match"], (found, truth))


def test_no_texts_and_uneven_lists_are_refused():
    for found, truth in (([], []), (["a"], ["a", "b"]), (["a"], [])):
        [ours] = ask([{"kind": "texts", "found": found, "truth": truth}])
        for name, answer in ours.items():
            assert len(answer["refused"].split()) > 5, name


def test_texts_of_100_kilobytes():
    draw = random.Random(41)
    words = draw.choices(PLAIN + ["日本語", "3.14", "e-mail", "👍", "café"], k=22_000)
    # rouge_score and sacrebleu fill tables of words by words: for those metrics words are long, and fewer.
    long = ["".join(draw.choices("abcdefghij", k=2)) * 120 for _ in range(450)]
    linear = ["bleu", "sacrebleu", "chrf", "rouge1", "rouge2", "squad_f1", "exact_match"]
    quadratic = ["ter", "rougeL", "rougeLsum"]
    pairs = [(" ".join(changed(text, draw)), " ".join(text)) for text in (words, long)]
    asked = [{"kind": "texts", "found": [found], "truth": [truth], "metrics": names}
             for (found, truth), names in zip(pairs, (linear, linear + quadratic))]
    for (found, truth), ours in zip(pairs, ask(asked)):
        assert len(truth.encode()) > 90_000
        names = [name for name in ROUGE if name in ours]
        rouge = scorer.RougeScorer(names).score(truth, found)
        for name in names:
            agree(ours[name], lambda: rouge[name].fmeasure, name)
        assert ours["squad_f1"] == pytest.approx(squad(found, truth), rel=1e-6, abs=1e-5)
        agree(ours["exact_match"], lambda: float(found == truth), "exact_match")
        agree(ours["bleu"], lambda: sacrebleu.corpus_bleu([found], [[truth]], smooth_method="none").score / 100, "bleu")
        for name, reference in (
            ("sacrebleu", sacrebleu.corpus_bleu), ("chrf", sacrebleu.corpus_chrf), ("ter", sacrebleu.corpus_ter),
        ):
            if name in ours:
                agree(ours[name], lambda: reference([found], [[truth]]).score, name)
