"""TF-IDF by numbers: the bits of scikit-learn's TfidfVectorizer in a fraction of its time.

A word is its rank among all words in alphabetical order. An n-gram of words is a number with their ranks as digits, so
that numbers are in the order of the strings: a space comes before every letter. Sorting n-grams together with the
numbers of their texts brings equal ones side by side, where differences count them. N-grams of characters are made of
the different words only, and multiplied by how often a text has each word. N texts, D n-grams.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from itertools import chain, repeat
from typing import Any

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix

PIECE = 2**16  # texts, or an eighth of the words, that are sorted at once: bounds the memory
END, LEFT_OUT = 0, -1  # ranks of the end of a text; of a word that is too short, or a stop word
SHORTEST = {r"\b\w+\b": 1, r"\b\w\w+\b": 2}  # letters of a word, where the pattern splits at whatever is no letter
ASCII = bytes(range(128))
LETTERS = re.sub(rb"[^\w\0]", b" ", ASCII) + bytes(range(128, 256))  # and spaces for the others
Names = Callable[[np.ndarray], list[str]]  # of n-grams by their positions


class NotByNumbersError(Exception):
    """Options or texts that only scikit-learn covers."""


class Tfidf:
    """The rows that scikit-learn's TfidfVectorizer makes of texts, by itself.

    Args:
        options: an `Ngrams`.
    """

    names: list[str]  # the n-gram of each column, (D,)
    idf: np.ndarray | None  # (D,) in float32, if it is used

    def __init__(self, options: Any) -> None:
        self.options = options
        self.low, self.high = options.ngram_range
        self.shortest = 0  # letters of a word
        self.prepare: Any = str.lower if options.lowercase else str
        self.stop_words: frozenset[str] = frozenset()
        if options.strip_accents or options.stop_words:
            vectorizer = _vectorizer(options)
            vectorizer.build_analyzer()  # warns of stop words that are never met
            self.prepare = vectorizer.build_preprocessor()
            self.stop_words = vectorizer.get_stop_words() or self.stop_words

    def use(self, names: list[str], idf: np.ndarray | None) -> None:
        """Take a vocabulary and its idf, as fitted before."""
        self.names, self.idf = names, idf
        self.columns = dict(zip(names, range(len(names)), strict=True))

    @cached_property
    def sklearn(self) -> Any:
        """The fitted TfidfVectorizer."""
        vectorizer = _vectorizer(self.options, self.names)
        if self.idf is None:
            return vectorizer.fit([""])  # learns nothing, for the vocabulary is given; only marks it as fitted
        vectorizer.idf_ = self.idf
        return vectorizer

    def fit_transform(self, texts: Sequence[str]) -> Any:
        """Learn vocabulary and idf; returns the texts' rows, an (N, D) CSR matrix in float32.

        Raises:
            ValueError: scikit-learn's, where no n-gram is left.
        """
        options, size, smooth = self.options, len(texts), int(self.options.smooth_idf)
        least, most = (df if isinstance(df, int) else df * size for df in (options.min_df, options.max_df))
        try:
            counts, names_at = self._count(texts, least, most)
            df = np.diff(counts.indptr)
            kept = np.flatnonzero((df >= least) & (df <= most))
            if not len(kept):
                raise NotByNumbersError
        except NotByNumbersError:
            vectorizer = _vectorizer(options)
            rows = vectorizer.fit_transform(texts)
            self.use(vectorizer.get_feature_names_out().tolist(), vectorizer.idf_ if options.use_idf else None)
            return rows
        if options.max_features is not None and len(kept) > options.max_features:
            tf = df.astype(np.float32) if options.binary else np.asarray(counts.sum(axis=0)).ravel()
            kept = np.sort(kept[(-tf[kept]).argsort()[: options.max_features]])  # of equal ones scikit-learn's choice
        df = df[kept].astype(np.float32) + np.float32(smooth)
        idf = np.log(np.full_like(df, size + smooth) / df) + np.float32(1)
        self.use(names_at(kept), idf if options.use_idf else None)
        rows = counts[:, kept].tocsr()
        for start in range(0, size, PIECE):
            self._weigh(rows.data, rows.indices, rows.indptr[start : start + PIECE + 1])
        return rows

    def transform(self, texts: Sequence[str]) -> Any:
        """The rows of texts, an (N, D) CSR matrix in float32."""
        if not len(texts):  # of which scikit-learn makes nothing
            return csr_matrix((0, len(self.names)), dtype=np.float32)
        try:
            counts, names_at = self._count(texts, 1, len(texts))
        except NotByNumbersError:
            return self.sklearn.transform(texts)
        names = names_at(np.arange(counts.shape[1]))
        column = np.fromiter(map(self.columns.get, names, repeat(-1)), np.int32, len(names))
        known = column >= 0
        rows = counts[:, known].tocsr()
        rows = csr_matrix((rows.data, column[known][rows.indices], rows.indptr), (len(texts), len(self.names)))
        self._weigh(rows.data, rows.indices, rows.indptr)
        return rows

    def row(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Columns and values of a text's row, the same bits in a fifth of the time of `transform`."""
        counts: Counter[Any] = Counter(map(self.columns.get, self._analyze(text)))
        del counts[None]  # of n-grams without a column
        columns = np.array(sorted(counts), np.int32)
        values = np.array([counts[column] for column in columns.tolist()], np.float32)
        self._weigh(values, columns, np.array([0, len(values)]))
        return columns, values

    @cached_property
    def _analyze(self) -> Any:
        return _vectorizer(self.options).build_analyzer()

    def _weigh(self, values: np.ndarray, columns: np.ndarray, bounds: np.ndarray) -> None:
        """Turn the counts of some rows into TF-IDF, in place, by the operations of scikit-learn in their order."""
        values, columns = values[bounds[0] : bounds[-1]], columns[bounds[0] : bounds[-1]]
        if self.options.binary:
            values.fill(1)
        if self.options.sublinear_tf:
            np.log(values, values)
            values += 1
        if self.idf is not None:
            values *= self.idf[columns]
        if self.options.norm is not None:
            row = np.repeat(np.arange(len(bounds) - 1), bounds[1:] - bounds[:-1])
            if self.options.norm == "l1":
                length = np.bincount(row, values)
            else:
                length = np.sqrt(np.bincount(row, values * values))  # squares in float32, their sum in float64
            np.divide(values, length[row], out=values, casting="same_kind")

    def _count(self, texts: Sequence[str], least: float, most: float) -> tuple[csc_matrix, Names]:
        """How often each text has each n-gram; in alphabetical order, at least those in `least` to `most` texts.

        Raises:
            NotByNumbersError: they have no such numbers.
        """
        raise NotByNumbersError

    def _words(self, texts: Sequence[str]) -> tuple[np.ndarray, list[str]]:
        """The rank of each word of all texts, from 1 on, and END after each text; the words in alphabetical order."""
        number: defaultdict[str, int] = defaultdict()
        number.default_factory = number.__len__
        pieces = (self._split(texts[start : start + PIECE]) for start in range(0, len(texts), PIECE))
        codes = [np.fromiter(map(number.__getitem__, chain("\0", words)), np.int32)[1:] for words in pieces]
        short = {word for word in number if len(word) < self.shortest} if self.shortest > 1 else set()
        words = sorted(number.keys() - short - self.stop_words - {"\0"})
        rank = np.full(len(number), LEFT_OUT, np.int32)
        rank[[number["\0"], *map(number.__getitem__, words)]] = np.arange(len(words) + 1)
        ranks = rank[np.concatenate(codes)]
        return ranks[ranks != LEFT_OUT], words

    def _split(self, texts: Sequence[str]) -> list[str]:
        r"""The words of all texts, and "\0" after each text."""
        joined = self.prepare("\0".join((*texts, "")))  # the case of a letter depends on none beyond a "\0"
        if joined.count("\0") != len(texts):
            raise NotByNumbersError
        return self._find(joined)

    def _find(self, joined: str) -> list[str]:
        return joined.replace("\0", " \0 ").split()


class WordTfidf(Tfidf):
    """N-grams of words."""

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.shortest = SHORTEST.get(options.token_pattern.removeprefix("(?u)"), 0)

    def _find(self, joined: str) -> list[str]:
        if not self.shortest:
            find = re.compile(self.options.token_pattern).findall
            words = [*chain.from_iterable((*find(text), "\0") for text in joined.split("\0")[:-1])]
            if any(min(word, default=" ") <= " " for word in {*words} - {"\0"}):
                raise NotByNumbersError  # n-grams of these sort in another order
            return words
        text = joined.encode(errors="replace")  # half a surrogate pair is no letter, and neither is the question mark
        signs = [char for char in {*text.translate(None, ASCII).decode()} if not char.isalnum()]
        if len(signs) > 50:
            return re.findall(r"\w+|\0", joined)
        for sign in signs:
            text = text.replace(sign.encode(), b" ")
        return super()._find(text.translate(LETTERS).decode())

    def _count(self, texts: Sequence[str], least: float, most: float) -> tuple[csc_matrix, Names]:
        ranks, words = self._words(texts)
        base, bits = len(words) + 1, len(texts).bit_length()
        if not words or base**self.high >> (63 - bits):
            raise NotByNumbersError
        text = (ranks == END).cumsum(dtype=np.int32)
        frequency = np.bincount(ranks, minlength=base)
        frequency[END] = 0
        before = frequency.cumsum()  # words of this rank or a lower one
        bounds = np.unique(before.searchsorted(np.arange(1, before[-1] + 1, 8 * PIECE)))
        found = []
        for low, end in zip(bounds, np.append(bounds[1:], base), strict=True):  # by the rank of the first word
            starts = np.flatnonzero((ranks >= low) & (ranks < end))
            ngrams, df, row, count = self._counted(ranks, starts, text, base, bits)
            kept = (df >= least) & (df <= most)
            among = np.repeat(kept, df)
            found.append((ngrams[kept], df[kept], row[among].astype(np.int32), count[among].astype(np.float32)))
        ngrams, df, row, count = map(np.concatenate, zip(*found, strict=True))
        counts = csc_matrix((count, row, np.append(0, df.cumsum())), (len(texts), len(ngrams)))
        return counts, lambda columns: self._joined(ngrams[columns], words)

    def _counted(
        self, ranks: np.ndarray, at: np.ndarray, text: np.ndarray, base: int, bits: int
    ) -> tuple[np.ndarray, ...]:
        """The n-grams that begin at some places: the different ones, in how many texts each is; in which, how often."""
        number, found = np.zeros(len(at), np.int64), []
        for n in range(1, self.high + 1):
            rank = ranks[at + n - 1]
            whole = rank > 0
            at, number = at[whole], number[whole] * base + rank[whole]
            if n >= self.low:
                found.append(number * base ** (self.high - n) << bits | text[at])
        pairs = np.concatenate(found)
        pairs.sort()
        first, count = _runs(pairs)
        pairs = pairs[first]
        ngrams = pairs >> bits
        first, df = _runs(ngrams)
        return ngrams[first], df, pairs & ((1 << bits) - 1), count

    def _joined(self, ngrams: np.ndarray, words: list[str]) -> list[str]:
        """Their words, each with a space before it but the first."""
        base, word = len(words) + 1, np.array(["", *words], object)
        names = word[ngrams // base ** (self.high - 1)]
        word[1:] = " " + word[1:]
        for n in range(self.high - 2, -1, -1):
            names += word[ngrams // base**n % base]
        return names.tolist()


class CharTfidf(Tfidf):
    """N-grams of the characters of a word and a space on either side."""

    def _count(self, texts: Sequence[str], least: float, most: float) -> tuple[csc_matrix, Names]:
        from sklearn.feature_extraction.text import CountVectorizer  # slow to import, so not at the top

        ranks, words = self._words(texts)
        if not words:
            raise NotByNumbersError
        options = {"analyzer": "char_wb", "ngram_range": (self.low, self.high), "dtype": np.float32}
        of_words = CountVectorizer(lowercase=False, **options)
        counts = of_words.fit_transform(words)
        bounds = np.append(0, np.flatnonzero(ranks == END) - np.arange(len(texts)))
        words_of_texts = ranks[ranks != END] - 1
        ones = np.ones(len(words_of_texts), np.float32)
        counts = csr_matrix((ones, words_of_texts, bounds), (len(texts), len(words))) @ counts
        return counts.tocsc(), lambda columns: of_words.get_feature_names_out()[columns].tolist()


def tfidf(options: Any) -> Tfidf:
    """The fastest that these options allow."""
    return {"word": WordTfidf, "char_wb": CharTfidf, "char": Tfidf}[options.analyzer](options)


def _vectorizer(options: Any, vocabulary: list[str] | None = None) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer  # slow to import, so not at the top

    arguments = asdict(options) | {"dtype": np.float32}
    if options.analyzer != "word":  # scikit-learn warns of options that it ignores
        del arguments["token_pattern"], arguments["stop_words"]
    return TfidfVectorizer(**arguments, vocabulary=vocabulary)


def _runs(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where equal numbers begin, and how many there are of each."""
    new = np.ones(len(ordered) + 1, bool)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:-1])
    bounds = np.flatnonzero(new)
    return bounds[:-1], np.diff(bounds)
