"""METEOR against nltk: with a small WordNet and a small model of sentences that are made here, and with the real ones where
nltk finds them (NLTK_DATA) or Debian's wordnet-base is installed."""

import pathlib
import random
import shutil

import pytest
from metric_program import agree, ask
from test_metrics_texts import ODD, PLAIN, changed

pytest.importorskip("nltk")
import nltk.data  # noqa: E402
from nltk.corpus.reader.wordnet import WordNetCorpusReader  # noqa: E402
from nltk.tokenize import NLTKWordTokenizer  # noqa: E402
from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer, load_punkt_params, save_punkt_params  # noqa: E402
from nltk.translate.meteor_score import single_meteor_score  # noqa: E402

DEBIAN = pathlib.Path("/usr/share/wordnet")
# Words of one meaning each, by part of speech. Words with a _ are compounds, those in capitals are never matched.
MEANINGS = {
    "noun": [["car", "auto", "motor_car"], ["dog", "Canis"], ["man", "adult"], ["mouse"], ["box", "case"], ["sky", "blue"]],
    "verb": [["sit", "rest"], ["say", "state", "tell"], ["run", "go"], ["box", "fight"]],
    "adj": [["big", "large(p)"], ["small", "little(a)", "minor"]],
    "adv": [["well", "good"]],
}
IRREGULAR = {"noun": ["mice mouse", "men man"], "verb": ["sat sit", "said say", "ran run"], "adj": ["bigger big"], "adv": ["best well"]}
ENGLISH = (
    "The cars sat. Dogs said it runs! Dr. Smith's mice ran boxes, e.g. A. Bach didn't rest? bigger larger smallest minors states "
    "stated skies blues good best well (wanna) \"gimme\" cannot 3.14 No. 5 U.S. He she telling going fights 'tis «x» ... boxing"
).split()


def small_wordnet(folder):
    """WordNet's files: an index names meanings by their offsets in the data."""
    folder.mkdir(parents=True)
    for part, meanings in MEANINGS.items():
        letter = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}[part]
        data, offsets = "  1 This line is of the licence.\n", {}
        for words in meanings:
            for word in words:
                offsets.setdefault(word.split("(")[0].lower(), []).append(len(data))
            data += f"{len(data):08d} 00 {letter} {len(words):02x} " + "".join(f"{word} 0 " for word in words) + "000 | gloss\n"
        (folder / f"data.{part}").write_text(data)
        (folder / f"index.{part}").write_text("  1 This line is of the licence.\n" + "".join(
            f"{word} {letter} {len(at)} 2 @ ~ {len(at)} 0 " + " ".join(f"{offset:08d}" for offset in at) + "\n"
            for word, at in sorted(offsets.items())
        ))
        (folder / f"{part}.exc").write_text("".join(line + "\n" for line in IRREGULAR[part]))


def small_punkt(folder):
    folder.mkdir(parents=True)
    model = PunktParameters()
    model.abbrev_types.update({"dr", "e.g", "u.s", "no"})
    model.collocations.add(("##number##", "u.s"))
    model.sent_starters.update({"he", "the"})
    model.ortho_context.update({"the": 2 | 32, "she": 2 | 16, "dogs": 4, "bach": 4, "smith's": 8})
    save_punkt_params(model, dir=str(folder))


def languages(root):
    """Folders laid out as nltk's, the small one and, if there is one, the real one."""
    small_wordnet(root / "small/corpora/wordnet")
    small_punkt(root / "small/tokenizers/punkt_tab/english")
    yield root / "small"
    real = root / "real/corpora/wordnet"
    try:
        found = pathlib.Path(nltk.data.find("corpora/wordnet"))
    except LookupError:
        found = DEBIAN
    if (found / "data.noun").exists():
        shutil.copytree(found, real)
        try:
            punkt = pathlib.Path(nltk.data.find("tokenizers/punkt_tab/english"))
        except LookupError:
            punkt = root / "small/tokenizers/punkt_tab/english"
        shutil.copytree(punkt, root / "real/tokenizers/punkt_tab/english")
        yield root / "real"


class English(WordNetCorpusReader):
    """WordNet without other languages, which want another copy of it."""

    def map_wn(self, version="wordnet"):
        return None


def reference(folder):
    """nltk's score of two texts with the data in `folder`."""
    wordnet = folder / "corpora/wordnet"
    # Which nltk wants, and METEOR makes no use of.
    (wordnet / "lexnames").write_text("".join(f"{number:02d}\tname{number}\t1\n" for number in range(45)))
    punkt = PunktSentenceTokenizer(load_punkt_params(nltk.data.FileSystemPathPointer(str(folder / "tokenizers/punkt_tab/english"))))
    reader = English(str(wordnet), None)

    def words(text):
        return [word for sentence in punkt.tokenize(text) for word in NLTKWordTokenizer().tokenize(sentence)]

    return lambda found, truth: single_meteor_score(words(truth), words(found), wordnet=reader)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_meteor_is_that_of_nltk(tmp_path, monkeypatch):
    # nltk reads and writes its data nowhere else.
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path), *nltk.data.path])
    draw = random.Random(29)
    pairs = [("", ""), ("", "a"), ("a", ""), (" \n", "."), ("the cat sat", "the cat sat"), ("日本語", "日本語"), ("Dr.", "Dr. ")]
    for vocabulary in (PLAIN, ENGLISH, ENGLISH + PLAIN, ENGLISH + ODD):
        for _ in range(150):
            truth = draw.choices(vocabulary, k=draw.randint(0, 30))
            found = changed(truth, draw) if draw.random() < 0.7 else draw.choices(vocabulary, k=draw.randint(0, 30))
            pairs.append((draw.choice([" ", "\n"]).join(found), " ".join(truth)))
    words = draw.choices(ENGLISH + PLAIN, k=24_000)
    pairs.append((" ".join(changed(words, draw)), " ".join(words)))
    assert len(pairs[-1][1]) > 100_000
    for folder in languages(tmp_path):
        score = reference(folder)
        asked = [{"kind": "texts", "found": [f], "truth": [t], "metrics": ["meteor"], "lexicon": str(folder)} for f, t in pairs]
        asked = [{**asked[0], "found": [f for f, _ in pairs], "truth": [t for _, t in pairs]}, *asked[: 9 if folder.name == "real" else None]]
        corpus, *answers = ask(asked)
        agree(corpus["meteor"], lambda: sum(score(*pair) for pair in pairs) / len(pairs), "all")
        for (found, truth), ours in zip(pairs, answers):
            agree(ours["meteor"], lambda: score(found, truth), (folder.name, found, truth))


def test_meteor_without_its_data_is_refused_with_what_fetches_it(tmp_path):
    [ours] = ask([{"kind": "texts", "found": ["a"], "truth": ["a"], "metrics": ["meteor"]}])
    assert "nltk.downloader" in ours["meteor"]["refused"]
    with pytest.raises(AssertionError, match=r"data\.noun"):
        ask([{"kind": "texts", "found": ["a"], "truth": ["a"], "metrics": ["meteor"], "lexicon": str(tmp_path)}])
