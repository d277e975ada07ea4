"""Tokenizers of sentencepiece and WordPiece vocabularies, loaded from files or learned from texts."""

from __future__ import annotations

import io
import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lmm4rec.core.errors import ConfigError, optional
from lmm4rec.core.files import atomic, write_text

_TEXTS_TO_LEARN_FROM = 50_000
_LONGEST_WORD = 100  # characters; longer words are unknown (BERT's limit)


@runtime_checkable
class Tokenizer(Protocol):
    """Token ids of texts, cut to a number of tokens, both ends included."""

    pad: int
    size: int

    def __call__(self, texts: Sequence[str], length: int) -> list[list[int]]:
        """The ids of each text."""
        ...


class SentencePieces:
    """A sentencepiece model (arXiv 1808.06226) with the ids of fairseq: <s> 0, <pad> 1, </s> 2, <unk> 3, piece + 1."""

    start, pad, end, unknown = 0, 1, 2, 3

    def __init__(self, file: Path, *, purpose: str) -> None:
        """Raises ConfigError where the file is no such model, MissingExtraError without sentencepiece."""
        library = optional("sentencepiece", extra="beit3", purpose=purpose)
        try:
            self.model: Any = library.SentencePieceProcessor(model_file=str(file))
        except (OSError, RuntimeError) as error:
            raise ConfigError(f"'{file}' is no sentencepiece model ({error})") from error
        self.size = int(self.model.get_piece_size()) + 1

    def __call__(self, texts: Sequence[str], length: int) -> list[list[int]]:
        """The ids of each text."""
        return [
            [self.start, *(piece + 1 if piece else self.unknown for piece in pieces[: length - 2]), self.end]
            for pieces in self.model.encode(list(texts), num_threads=1)
        ]


class WordPieces:
    """BERT's lower-case WordPiece (arXiv 1810.04805) over a vocabulary of one piece a line."""

    SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

    def __init__(self, file: Path, *, purpose: str) -> None:
        """Raises ConfigError where the file is no such vocabulary, MissingExtraError without tokenizers."""
        library = optional("tokenizers", extra="transformers", purpose=purpose)
        try:
            # split at line ends alone: some pieces are separators that splitlines would split at
            lines = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"'{file}' is no WordPiece vocabulary ({error})") from error
        vocabulary = {line.rstrip("\r"): row for row, line in enumerate(lines)}
        lacking = [piece for piece in self.SPECIAL[:4] if piece not in vocabulary]
        if lacking:
            raise ConfigError(f"'{file}' is no WordPiece vocabulary: it lacks {', '.join(lacking)}")
        self.model: Any = library.Tokenizer(
            library.models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=_LONGEST_WORD)
        )
        self.model.normalizer = library.normalizers.BertNormalizer(lowercase=True)
        self.model.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
        self.model.add_special_tokens([piece for piece in self.SPECIAL if piece in vocabulary])
        self.size = len(lines)
        self.start, self.end, self.pad = (vocabulary[piece] for piece in ("[CLS]", "[SEP]", "[PAD]"))

    def __call__(self, texts: Sequence[str], length: int) -> list[list[int]]:
        """The ids of each text."""
        # one by one: a batch would start threads, which worker processes must not inherit
        pieces = (self.model.encode(text, add_special_tokens=False).ids for text in texts)
        return [[self.start, *ids[: length - 2], self.end] for ids in pieces]


def find_vocabulary(given: str | None, folder: Path, names: Sequence[str]) -> Path | None:
    """The vocabulary given, else the first of `names` in the folder; None where it has none.

    Raises:
        ConfigError: the file given is missing.
    """
    if given is not None:
        if not Path(given).expanduser().is_file():
            raise ConfigError(f"there is no vocabulary at '{given}': give the path of {' or '.join(names)}")
        return Path(given).expanduser()
    return next((folder / name for name in names if (folder / name).is_file()), None)


def need_vocabulary(file: Path | None, *, name: str, parameter: str, purpose: str) -> Path:
    """The vocabulary found; ConfigError where there was none."""
    if file is None:
        raise ConfigError(
            f"{purpose} reads text with the file {name}: put it beside the checkpoint, or give its path as {parameter}"
        )
    return file


def learn_sentence_pieces(texts: Sequence[str], file: Path, *, size: int, purpose: str) -> None:
    """Write a unigram sentencepiece model of at most `size` pieces, learned from the texts and the ASCII characters."""
    library = optional("sentencepiece", extra="beit3", purpose=purpose)
    model = io.BytesIO()
    library.SentencePieceTrainer.train(
        sentence_iterator=iter([_ascii_text(), *_sample(texts)]),
        model_writer=model,
        vocab_size=size,
        hard_vocab_limit=False,
        model_type="unigram",
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        shuffle_input_sentence=False,
        minloglevel=2,
    )
    with atomic(file) as beside:
        beside.write_bytes(model.getvalue())


def learn_word_pieces(texts: Sequence[str], file: Path, *, size: int, purpose: str) -> None:
    """Write a WordPiece vocabulary of about `size` pieces, learned from the texts and the ASCII characters."""
    library = optional("tokenizers", extra="transformers", purpose=purpose)
    learner = library.Tokenizer(library.models.WordPiece(unk_token="[UNK]"))
    learner.normalizer = library.normalizers.BertNormalizer(lowercase=True)
    learner.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    sample = [_ascii_text(), *_sample(texts)]
    counts = Counter(itertools.chain.from_iterable(learner.normalizer.normalize_str(text) for text in sample))
    ordered = sorted(
        (letter for letter in counts if not letter.isspace()), key=lambda letter: (-counts[letter], letter)
    )
    letters = sorted(ordered[: size // 4])
    # the trainer numbers letters inside words in an order that changes from run to run: so they are listed before
    inside = [f"##{letter}" for letter in letters]
    trainer = library.trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=[*WordPieces.SPECIAL, *inside], initial_alphabet=letters,
        limit_alphabet=len(letters), show_progress=False,
    )  # fmt: skip
    learner.train_from_iterator(sample, trainer)
    vocabulary = learner.get_vocab()
    write_text(file, "\n".join(sorted(vocabulary, key=vocabulary.__getitem__)) + "\n")


def _ascii_text() -> str:
    """Every printable ASCII character, alone and inside a word, so that none is unknown."""
    characters = [chr(code) for code in range(33, 127)]
    return " ".join([*characters, "".join(character for character in characters if character.isalnum())])


def _sample(texts: Sequence[str]) -> list[str]:
    """The texts, evenly spaced where there are very many."""
    whole = [text for text in texts if text.strip()]
    step = -(-len(whole) // _TEXTS_TO_LEARN_FROM) or 1
    return whole[::step]
