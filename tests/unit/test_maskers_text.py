"""Texts as games: cut without losing a character, and asked of callables and of networks with their tokenizers by which pieces are present."""

import itertools

import pytest
import torch
from torch import nn

import pellucid as pel
from models import Tally, made
from pellucid.backends import wrap
from pellucid.backends.text import text_question
from pellucid.core.errors import UsageError
from pellucid.core.game import Game
from pellucid.core.question import ask
from pellucid.modalities.maskers import masker_of
from pellucid.modalities.text import TextMasker, Tokens, aligned, instead, sentences, without, words

TEXTS = ["The film was not unbelievably bad, honestly!", "I liked it."]
ODD = [
    "It's not bad, at all!", "  (Hello) world -- 你好 don't end.  ", "U.S. GDP grew 3.14%... \"Really?\"  he said.\nDr. Smith left. Bye",
    "", " \n ", "!!!", "a", "今天天气很好。我们去玩吧！", "tab\tand\n\nlines",
    "naïve café – résumé", "👍🏽 great 👩‍👩‍👧", "C++ and C#; x_1 = 2",
]  # fmt: skip


# -- cutting and putting together -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("cut", [words, sentences])
def test_every_sign_belongs_to_a_piece_and_everybody_is_the_text(text, cut):
    spans = cut(text)
    assert all(0 <= a < b <= len(text) for a, b in spans)
    assert all(b <= c for (_, b), (c, _) in itertools.pairwise(spans))
    covered = {k for a, b in spans for k in range(a, b)}
    assert all(text[k].isspace() for k in range(len(text)) if k not in covered)
    there = [True] * len(spans)
    assert without(text, spans, there) == text
    assert instead(text, spans, there, "…") == text
    assert without(text, spans, [False] * len(spans)).strip() == ""
    assert instead(text, spans, [False] * len(spans), "…").count("…") == len(spans) + text.count("…")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("It's not bad, at all!", ["It's", "not", "bad,", "at", "all!"]), ("(Hello) well-known -- end.", ["(Hello)", "well-known", "--", "end."]), ("今天 good天", ["今", "天", "good", "天"]),
        ("either/or", ["either/", "or"]),
    ],
)  # fmt: skip
def test_words(text, want):
    assert [text[a:b] for a, b in words(text)] == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("One. Two!  Three?", ["One.", "Two!", "Three?"]), ("Dr. Smith left. He ran, e.g. fast.", ["Dr. Smith left.", "He ran, e.g. fast."]),
        ("He said \"no.\" Then left", ["He said \"no.\"", "Then left"]),
        ("A line\nanother", ["A line", "another"]), ("很好。走吧！", ["很好。", "走吧！"]), ("3.5 is a number. J. Doe agrees.", ["3.5 is a number.", "J. Doe agrees."]),
    ],
)  # fmt: skip
def test_sentences(text, want):
    assert [text[a:b] for a, b in sentences(text)] == want


def test_what_is_left_reads_on():
    text = "It's not bad, at all!"
    spans = words(text)
    drop = lambda *gone: without(text, spans, [k not in gone for k in range(5)])  # noqa: E731
    assert [drop(0), drop(1), drop(4), drop(0, 1, 2), drop(1, 3)] == ["not bad, at all!", "It's bad, at all!", "It's not bad, at", "at all!", "It's bad, all!"]
    assert instead(text, spans, [True, False, True, True, False], "[x]") == "It's [x] bad, at [x]"


def test_spans_of_your_own():
    text = "not bad at all, not bad"
    assert TextMasker(["not bad", "not bad"]).spans([text]) == [[(0, 7), (16, 23)]]
    assert TextMasker([(8, 14), (0, 3)]).spans([text]) == [[(0, 3), (8, 14)]]
    assert TextMasker([["not"], [(0, 1)]]).spans([text, "ab"]) == [[(0, 3)], [(0, 1)]]
    assert without(text, [(8, 14)], [False]) == "not bad , not bad"


@pytest.mark.parametrize(
    ("unit", "says"),
    [
        (["good"], "'good' is not among"), ([(0, 99)], "between 0 and 23"), ([(3, 3)], "start before end"), ([(0, 7), (4, 9)], "'bad' belongs to two"), ([], "at least one span"),
        ([[(0, 1)], [(0, 1)]], "for each of 1 texts; got 2"),
    ],
)  # fmt: skip
def test_spans_that_cannot_be(unit, says):
    with pytest.raises(UsageError, match=says):
        TextMasker(unit).spans(["not bad at all, not bad"])


@pytest.mark.parametrize(("masker", "says"), [({"unit": "words"}, "Did you mean 'word'"), ({"unit": 3}, "list of spans"), ({"absent": 0}, "text that stands in")])
def test_maskers_that_cannot_be(masker, says):
    with pytest.raises(UsageError, match=says):
        TextMasker(**masker)


# -- a callable on lists of texts ------------------------------------------------------------------------------------------


class Critic:
    """Two classes from words; "not bad" is good."""

    __name__ = "critic"

    def __init__(self):
        self.tally, self.seen = Tally(), []

    def __call__(self, texts):
        self.tally.add(len(texts))
        self.seen += texts
        return [[len(t) / 100, ("good" in t) + 2.0 * ("not bad" in t) - ("bad" in t)] for t in texts]


def test_a_coalition_is_worth_the_text_without_the_absent():
    f = Critic()
    q = text_question(f, TEXTS, target=1)
    board = masker_of("auto", q).board(q)
    assert board.names == (("The", "film", "was", "not", "unbelievably", "bad,", "honestly!"), ("I", "liked", "it."))
    assert "cut out of the text" in board.value_function
    z = torch.rand(20, 7, generator=torch.Generator().manual_seed(0)) > 0.5
    want = torch.tensor([[Critic()([without(t, words(t), row.tolist()[: len(words(t))])])[0][1] for t in TEXTS] for row in z], dtype=torch.float64)
    assert torch.equal(Game(board)(z), want)
    assert want[:, 0].std() > 0
    assert torch.equal(q.target_values(), torch.tensor([r[1] for r in Critic()(TEXTS)], dtype=torch.float64))
    assert TEXTS[0] in f.seen, "all present is the text itself"


def test_longer_texts_beside_a_text_change_nothing():
    """Columns beyond a text's words are no players of it."""
    q = text_question(Critic(), TEXTS, target=0)
    board = masker_of("auto", q).board(q)
    z = torch.zeros(2, 7, dtype=torch.bool)
    z[1, 3:] = True
    assert torch.equal(Game(board)(z)[0, 1], Game(board)(z)[1, 1])
    f = Critic()
    q = text_question(f, TEXTS, target=0)
    Game(masker_of("auto", q).board(q))(z)
    assert len(f.seen) == 5, "two whole texts; two coalitions of the long one; the short one's empty coalition once"
    both = pel.explain(Critic(), TEXTS, method="exact-shapley", target=0, masker=TextMasker(), evidence="none")
    alone = pel.explain(Critic(), TEXTS[1], method="exact-shapley", target=0, masker=TextMasker(), evidence="none")
    assert torch.equal(both.values[1, :3], alone.values[0])
    assert (both.values[1, 3:] == 0).all()


@pytest.mark.parametrize(("absent", "render"), [("[…]", "The film […] not […] bad, honestly!"), ("remove", "The film not bad, honestly!"), ("auto", "The film not bad, honestly!")])
def test_what_stands_in(absent, render):
    f = Critic()
    q = text_question(f, TEXTS[0], target=1, absent=absent)
    z = torch.ones(1, 7, dtype=torch.bool)
    z[0, [2, 4]] = False
    Game(masker_of("word", q).board(q))(z)
    assert render in f.seen


@pytest.mark.parametrize("method", ["occlusion", "feature-ablation", "exact-shapley"])
@pytest.mark.parametrize("unit", ["word", "sentence", ["not bad", "all"]])
def test_every_method_explains_texts(method, unit):
    e = pel.explain(Critic(), "A bore? It's not bad, all in all.", method=method, target=1, masker=TextMasker(unit=unit), evidence="none")
    axis = unit if isinstance(unit, str) else "span"
    assert e.axes == ("row", axis)
    assert torch.equal(e.by(axis), e.values)
    assert len(e.names[axis]) == e.values.shape[1]
    assert e.values.abs().max() > 0
    assert any(n.startswith(f"a {axis} that is absent is replaced by nothing") for n in e.provenance["notes"])


def test_units_by_name():
    e = pel.explain(Critic(), "Good? It's not bad.", method="occlusion", target=1, masker="sentence", evidence="none")
    assert e.names == {"sentence": ["Good?", "It's not bad."]}
    assert pel.explain(Critic(), "Good? It's not bad.", method="occlusion", target=1, evidence="none").names == {"word": ["Good?", "It's", "not", "bad."]}


def test_texts_ask_for_texts():
    with pytest.raises(UsageError, match="a text or a list of texts"):
        text_question(Critic(), torch.zeros(2, 3))
    with pytest.raises(UsageError, match="at least one word; got ' '"):
        text_question(Critic(), ["fine", " "])
    with pytest.raises(UsageError, match="said by the masker"):
        pel.explain(Critic(), "a b", masker=TextMasker(), baseline="mean")
    with pytest.raises(UsageError, match="needs a network and its tokenizer"):
        text_question(Critic(), "a b", absent="mask")
    with pytest.raises(UsageError, match="Tokens need a tokenizer"):
        text_question(Critic(), "a b", unit="token")
    q = ask(wrap(made(lambda: nn.Linear(3, 2))), torch.zeros(1, 3), 0)
    with pytest.raises(UsageError, match="question about texts; got one about columns"):
        TextMasker().board(q)


# -- a network with its tokenizer ------------------------------------------------------------------------------------------

PIECES = ["the", "film", "was", "not", "un", "##believ", "##ably", "bad", ",", "honest", "##ly", "!", "i", "liked", "it", ".", "something", "caf", "##e"]


def wordpiece(**more):
    tokenizers = pytest.importorskip("tokenizers")
    from transformers import PreTrainedTokenizerFast

    vocab = {t: i for i, t in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PIECES])}
    core = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab, unk_token="[UNK]"))
    core.normalizer = tokenizers.normalizers.BertNormalizer()
    core.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    core.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"} | more
    return PreTrainedTokenizerFast(tokenizer_object=core, **special)


def bytes_bpe():
    tokenizers = pytest.importorskip("tokenizers")
    from transformers import PreTrainedTokenizerFast

    core = tokenizers.Tokenizer(tokenizers.models.BPE())
    core.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
    core.train_from_iterator([*TEXTS, "naïve café", "🙂"], tokenizers.trainers.BpeTrainer(vocab_size=320, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=core)


class Reader(nn.Module):
    """Ids to two classes, attention and position counted."""

    def __init__(self) -> None:
        super().__init__()
        self.emb, self.place, self.out = nn.Embedding(320, 6), nn.Embedding(64, 6), nn.Linear(6, 2)

    def forward(self, input_ids, attention_mask=None, token_type_ids=None):
        h = torch.tanh(self.emb(input_ids) + self.place(torch.arange(input_ids.shape[1])))
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return self.out((h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1))


class Plain(nn.Module):
    """Takes ids alone, by position."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Reader()

    def forward(self, ids):
        return self.inner(ids)


WORD_OF = [-1, 0, 1, 2, 3, 4, 4, 4, 5, 5, 6, 6, 6, -1]
"""[CLS] the film was not un ##believ ##ably bad , honest ##ly ! [SEP]"""


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("absent", ["mask", "remove", "pad", "something", "auto"])
def test_a_coalition_is_worth_the_ids_masked_by_hand(absent, dtype):
    tok, net = wordpiece(), made(Reader, dtype=dtype)
    q = text_question(net, TEXTS, absent=absent, tokenizer=tok, target=1)
    board = masker_of("auto", q).board(q)
    assert board.names == (tuple(t for t in TEXTS[0].split()), tuple(TEXTS[1].split()))
    z = torch.rand(12, 7, generator=torch.Generator().manual_seed(0)) > 0.5
    worth = Game(board)(z)
    for k in range(12):
        if absent == "something":
            batch = dict(tok([instead(TEXTS[0], words(TEXTS[0]), z[k].tolist(), "something")], return_tensors="pt"))
        else:
            batch = dict(tok(TEXTS[:1], return_tensors="pt"))
            gone = torch.tensor([w >= 0 and not z[k, w] for w in WORD_OF])[None]
            if absent == "remove":
                batch["attention_mask"] = batch["attention_mask"] * ~gone
            else:
                batch["input_ids"] = torch.where(gone, tok.pad_token_id if absent == "pad" else tok.mask_token_id, batch["input_ids"])
        with torch.no_grad():
            torch.testing.assert_close(worth[k, 0], net(**batch)[0, 1].double(), rtol=1e-12, atol=1e-12)
    assert worth.std() > 1e-4
    with torch.no_grad():
        whole = net(**tok(TEXTS, return_tensors="pt", padding=True))
    assert torch.equal(q.own_outputs(), whole), "everybody is the tokenizer's own batch, to the bit"


def test_tokens_are_players_too():
    q = text_question(made(Reader), TEXTS[0], unit="token", tokenizer=wordpiece())
    board = masker_of("token", q).board(q)
    assert board.names[0] == ("The", "film", "was", "not", "un", "##believ", "##ably", "bad", "##,", "honest", "##ly", "##!")
    e = pel.explain(made(Reader), TEXTS[0], method="occlusion", masker=TextMasker("token", tokenizer=wordpiece()), evidence="none")
    assert e.axes == ("row", "token")
    assert e.values.shape == (1, 12)


def test_bytes_that_share_a_letter_go_together():
    """Byte-level pieces with leading spaces; the bytes of one emoji are one player, whatever their number."""
    tok, text = bytes_bpe(), "naïve café 🙂🙃 it."
    tokens = Tokens(tok, [text])
    spans = tokens.spans[0]
    assert "".join(text[a:b].strip() for a, b in spans) == text.replace(" ", "")
    lab = tokens.labels([words(text)])[0]
    assert lab.tolist() == sorted(lab.tolist())
    assert set(lab.tolist()) == {0, 1, 2, 3}
    q = text_question(made(Reader), text, tokenizer=tok, absent="remove", target=0)
    assert masker_of("auto", q).board(q).names[0] == ("naïve", "café", "🙂🙃", "it.")


def test_tokens_that_do_not_say_where_they_lie():
    tok = wordpiece()
    fast = Tokens(tok, TEXTS)

    class Slow:
        """The same tokenizer without offsets."""

        is_fast = False
        pad_token_id, mask_token_id, model_max_length = 0, 4, 512

        def __call__(self, texts, return_offsets_mapping=False, **more):
            assert not return_offsets_mapping
            return tok(texts, **more)

        convert_ids_to_tokens = staticmethod(tok.convert_ids_to_tokens)

    assert Tokens(Slow(), TEXTS).at == fast.at
    assert aligned("New York", ["▁New", "▁Y", "ork"], [0, 0, 0]) == [(0, 3), (4, 5), (5, 8)]
    with pytest.raises(UsageError, match="fast tokenizer"):
        aligned("New York", ["new", "[UNK]"], [0, 0])


@pytest.mark.parametrize(
    ("net", "masker", "says"),
    [
        (Reader, {"tokenizer": None}, "texts need its tokenizer"), (Plain, {"absent": "remove"}, "takes an attention_mask; Plain takes none"),
        (Reader, {"tokenizer": "no mask", "absent": "mask"}, "tokenizer with such a token"), (Reader, {"tokenizer": "short"}, "takes 5 tokens; the longest text has 14"),
        (Reader, {"unit": [(3, 4)]}, "span needs at least one token of its own"), (Reader, {"tokenizer": "no pad"}, "padding token"),
    ],
)  # fmt: skip
def test_networks_that_cannot_be_asked(net, masker, says):
    given = masker.get("tokenizer", "whole")
    tok = {"no mask": lambda: wordpiece(mask_token=None), "short": lambda: wordpiece(model_max_length=5), "no pad": lambda: wordpiece(pad_token=None), "whole": wordpiece, None: lambda: None}[given]()
    texts = TEXTS if given == "no pad" else TEXTS[0]
    with pytest.raises(UsageError, match=says):
        text_question(made(net), texts, **masker | {"tokenizer": tok})


def test_a_network_that_takes_ids_alone():
    net, tok = made(Plain), wordpiece()
    q = text_question(net, TEXTS[0], tokenizer=tok, target=0)
    with torch.no_grad():
        assert torch.equal(q.target_values(), net(tok(TEXTS[:1], return_tensors="pt")["input_ids"])[:, 0])


def test_a_network_s_own_words_are_read_without_trace():
    net, tok = made(Reader), wordpiece()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    e = pel.explain(net, TEXTS, method="exact-shapley", masker=TextMasker(tokenizer=tok), target=[0, 1], evidence="none")
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    torch.testing.assert_close(e.values.sum(1), e.total - e.base)
    assert e.players.names[1] == ("I", "liked", "it.")
