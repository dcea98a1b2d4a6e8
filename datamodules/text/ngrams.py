"""TF-IDF by numbers: the bits of scikit-learn's TfidfVectorizer in a fraction of its time.

A word is its rank among all words in alphabetical order. An n-gram of words is a number with their ranks as digits, so
that numbers are in the order of the strings: a space comes before every letter. Sorting n-grams together with the
numbers of their texts brings equal ones side by side, where differences count them. N-grams of characters are made of
the different words only, and multiplied by how often a text has each word. N texts, D n-grams.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix, vstack

PIECE = 2**16  # texts, or an eighth of the words, that are sorted at once: bounds the memory
END, UNKNOWN, DROPPED = 0, -1, -2  # of a text; a word of no n-gram; one that is too short, or a stop word
SHORTEST = {r"\b\w+\b": 1, r"\b\w\w+\b": 2}  # letters of a word, where the pattern splits at whatever is no letter
ASCII = bytes(range(128))
LETTERS = re.sub(rb"[^\w\0]", b" ", ASCII) + bytes(range(128, 256))  # and spaces for the others


class NotByNumbersError(Exception):
    """Options or texts that only scikit-learn covers."""


class _Numbers(dict[str, int]):
    """Numbers words in the order in which they are asked for, or, `closed`, none but those it has."""

    def __init__(self, numbers: dict[str, int], shortest: int = 0, closed: bool = False) -> None:
        super().__init__(numbers)
        self.shortest, self.closed = shortest, closed

    def __missing__(self, word: str) -> int:
        if len(word) < self.shortest:
            return DROPPED
        return UNKNOWN if self.closed else self.setdefault(word, len(self))


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
        self.prepare: Any = str.lower if options.lowercase else str
        self.known: dict[str, int] = {"\0": END}
        if options.strip_accents or options.stop_words:
            vectorizer = _vectorizer(options)
            vectorizer.build_analyzer()  # warns of stop words that are never met
            self.prepare = vectorizer.build_preprocessor()
            self.known |= dict.fromkeys(vectorizer.get_stop_words() or (), DROPPED)

    def use(self, names: list[str], idf: np.ndarray | None) -> None:
        """Take a vocabulary and its idf, as fitted before."""
        self.names, self.idf = names, idf

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
            counts, ngrams = self._learn(texts, least, most)
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
        self.use(self._names(ngrams[kept]), idf if options.use_idf else None)
        rows = counts[:, kept].tocsr()
        for start in range(0, size, PIECE):
            self._weigh(rows.data, rows.indices, rows.indptr[start : start + PIECE + 1])
        return rows

    def transform(self, texts: Sequence[str]) -> Any:
        """The rows of texts, an (N, D) CSR matrix in float32."""
        rows = [self._rows(texts[start : start + PIECE]) for start in range(0, len(texts), PIECE)]
        return vstack([csr_matrix((0, len(self.names)), dtype=np.float32), *rows], "csr") if len(rows) != 1 else rows[0]

    def _rows(self, texts: Sequence[str]) -> Any:
        try:
            rows = self._count(texts)
        except NotByNumbersError:
            return self.sklearn.transform(texts)
        self._weigh(rows.data, rows.indices, rows.indptr)
        return rows

    def row(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Columns and values of a text's row, the same bits in a fifth of the time of `transform`."""
        column = self.sklearn.vocabulary_
        counts = Counter(column[ngram] for ngram in self._analyze(text) if ngram in column)
        columns = np.array(sorted(counts), np.int32)
        values = np.array([counts[column] for column in columns.tolist()], np.float32)
        self._weigh(values, columns, np.array([0, len(values)]))
        return columns, values

    @cached_property
    def _analyze(self) -> Any:
        return self.sklearn.build_analyzer()

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

    def _learn(self, texts: Sequence[str], least: float, most: float) -> tuple[csc_matrix, np.ndarray]:
        """N-grams in alphabetical order, at least those in `least` to `most` texts; and how often each text has each.

        Raises:
            NotByNumbersError: they have no such numbers.
        """
        raise NotByNumbersError

    def _names(self, ngrams: np.ndarray) -> list[str]:
        return ngrams.tolist()

    def _count(self, texts: Sequence[str]) -> csr_matrix:
        """How often each text has each n-gram of the vocabulary."""
        raise NotByNumbersError

    def _codes(self, texts: Sequence[str], numbers: dict[str, int]) -> np.ndarray:
        """The number of each word of all texts, and END after each text."""
        pieces = (self._words(texts[start : start + PIECE]) for start in range(0, len(texts), PIECE))
        codes = np.concatenate([np.fromiter(map(numbers.__getitem__, words), np.int32) for words in pieces])
        return codes[codes != DROPPED]

    def _words(self, texts: Sequence[str]) -> list[str]:
        r"""The words of all texts, and "\0" after each text."""
        joined = self.prepare("\0".join((*texts, "")))  # the case of a letter depends on none beyond a "\0"
        if joined.count("\0") != len(texts):
            raise NotByNumbersError
        return self._split(joined)

    def _split(self, joined: str) -> list[str]:
        return joined.replace("\0", " \0 ").split()


class WordTfidf(Tfidf):
    """N-grams of words."""

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.find = re.compile(options.token_pattern).findall
        self.shortest = SHORTEST.get(options.token_pattern.removeprefix("(?u)"), 0)

    def use(self, names: list[str], idf: np.ndarray | None) -> None:
        super().use(names, idf)
        flat = " \0 ".join((*names, "")).split(" ")[:-1]
        self._rank({*flat} - {"\0"})
        self.ordered = flat.count("\0") == len(names) and self.base**self.high < 2**47  # beside one of PIECE texts
        if not self.ordered:
            return
        self.ranks = _Numbers(dict(zip(self.words, range(self.base), strict=True)) | self.known, self.shortest, True)
        codes = np.fromiter(map(self.ranks.__getitem__, flat), np.int64, len(flat))
        at, numbers = np.append(0, np.flatnonzero(codes == END)[:-1] + 1), np.zeros(len(names), np.int64)
        for _ in range(self.high):
            numbers = numbers * self.base + codes[at]
            at += codes[at] != END
        self.ordered = not codes[at].any() and bool((np.diff(numbers, prepend=0) > 0).all())
        self.numbers = numbers

    def _rank(self, words: set[str]) -> None:
        self.words = np.array(["", *sorted(words)], object)  # by rank, from 1 on
        self.base = len(self.words)

    def _split(self, joined: str) -> list[str]:
        if not self.shortest:
            words = [*chain.from_iterable((*self.find(text), "\0") for text in joined.split("\0")[:-1])]
            if any(min(word, default=" ") <= " " for word in {*words} - {"\0"}):
                raise NotByNumbersError  # n-grams of these sort in another order
            return words
        text = joined.encode(errors="replace")  # half a surrogate pair is no letter, and neither is the question mark
        signs = [char for char in {*text.translate(None, ASCII).decode()} if not char.isalnum()]
        if len(signs) > 50:
            return re.findall(r"\w+|\0", joined)
        for sign in signs:
            text = text.replace(sign.encode(), b" ")
        return super()._split(text.translate(LETTERS).decode())

    def _learn(self, texts: Sequence[str], least: float, most: float) -> tuple[csc_matrix, np.ndarray]:
        numbers, bits = _Numbers(self.known, self.shortest), len(texts).bit_length()
        codes = self._codes(texts, numbers)
        self._rank({word for word, number in numbers.items() if number > 0})
        if self.base == 1 or self.base**self.high >> (63 - bits):
            raise NotByNumbersError
        rank = np.zeros(len(numbers) + 1, np.int32)
        rank[[numbers[word] for word in self.words[1:]]] = np.arange(1, self.base)
        codes = rank[codes]
        text = (codes == END).cumsum(dtype=np.int32)
        frequency = np.bincount(codes, minlength=self.base)
        frequency[END] = 0
        before = frequency.cumsum()  # words of this rank or a lower one
        bounds = np.unique(before.searchsorted(np.arange(1, before[-1] + 1, 8 * PIECE)))
        found = []
        for low, end in zip(bounds, np.append(bounds[1:], self.base), strict=True):  # by the rank of the first word
            ngrams, df, row, count = self._counted(codes, np.flatnonzero((codes >= low) & (codes < end)), text, bits)
            kept = (df >= least) & (df <= most)
            among = np.repeat(kept, df)
            found.append((ngrams[kept], df[kept], row[among].astype(np.int32), count[among].astype(np.float32)))
        ngrams, df, row, count = map(np.concatenate, zip(*found, strict=True))
        return csc_matrix((count, row, np.append(0, df.cumsum())), (len(texts), len(ngrams))), ngrams

    def _counted(self, codes: np.ndarray, at: np.ndarray, text: np.ndarray, bits: int) -> tuple[np.ndarray, ...]:
        """The n-grams that begin at some places: the different ones, in how many texts each is; in which, how often."""
        number, found = np.zeros(len(at), np.int64), []
        for n in range(1, self.high + 1):
            code = codes[at + n - 1]
            whole = code > 0
            at, number = at[whole], number[whole] * self.base + code[whole]
            if n >= self.low:
                found.append(number * self.base ** (self.high - n) << bits | text[at])
        pairs = np.concatenate(found)
        pairs.sort()
        first, count = _runs(pairs)
        pairs = pairs[first]
        ngrams = pairs >> bits
        first, df = _runs(ngrams)
        return ngrams[first], df, pairs & ((1 << bits) - 1), count

    def _names(self, ngrams: np.ndarray) -> list[str]:
        names = self.words[ngrams // self.base ** (self.high - 1)]
        spaced = np.array(["", *(f" {word}" for word in self.words[1:])], object)
        for n in range(self.high - 2, -1, -1):
            names += spaced[ngrams // self.base**n % self.base]
        return names.tolist()

    def _count(self, texts: Sequence[str]) -> csr_matrix:
        if not self.ordered:
            raise NotByNumbersError
        codes = self._codes(texts, self.ranks)
        ngrams, df, row, count = self._counted(codes, np.flatnonzero(codes > 0), (codes == END).cumsum(), 16)
        column = self.numbers.searchsorted(ngrams)
        known = np.repeat(self.numbers.take(column, mode="clip") == ngrams, df)
        row, column, count = row[known], np.repeat(column, df)[known], count[known]
        order = row.astype(np.uint16).argsort(kind="stable")  # in linear time, for numbers of 16 bits
        bounds = np.append(0, np.bincount(row, minlength=len(texts)).cumsum())
        return csr_matrix((count[order].astype(np.float32), column[order], bounds), (len(texts), len(self.names)))


class CharTfidf(Tfidf):
    """N-grams of the characters of a word and a space on either side."""

    def use(self, names: list[str], idf: np.ndarray | None) -> None:
        super().use(names, idf)
        self.columns = _Numbers(dict(zip(names, range(len(names)), strict=True)), closed=True)

    def _learn(self, texts: Sequence[str], least: float, most: float) -> tuple[csc_matrix, np.ndarray]:
        numbers = _Numbers({})
        X, columns, bounds = self._spelled(texts, numbers)
        names = sorted(numbers)
        rank = np.empty(len(names), np.int32)
        rank[[numbers[name] for name in names]] = np.arange(len(names))
        return (X @ _ones(rank[columns], bounds, len(names))).tocsc(), np.array(names, object)

    def _count(self, texts: Sequence[str]) -> csr_matrix:
        X, columns, bounds = self._spelled(texts, self.columns)
        known = columns != UNKNOWN
        counts = X @ _ones(columns[known], np.append(0, known.cumsum())[bounds], len(self.names))
        counts.sort_indices()
        return counts

    def _spelled(self, texts: Sequence[str], columns: dict[str, int]) -> tuple[csr_matrix, np.ndarray, np.ndarray]:
        """How often each text has each of their different words; the n-grams of these words, and where each ends."""
        numbers = _Numbers(self.known)
        codes = self._codes(texts, numbers)
        bounds = np.append(0, np.flatnonzero(codes == END) - np.arange(len(texts)))
        X = _ones(codes[codes != END] - 1, bounds, len(numbers) - 1)
        spelled = [[*map(columns.__getitem__, self._spell(f" {word} "))] for word in [*numbers][1:]]
        return X, np.fromiter(chain(*spelled), np.int32), np.append(0, np.cumsum([*map(len, spelled)], dtype=np.int64))

    def _spell(self, word: str) -> Iterator[str]:
        """Its n-grams; those that would be longer than all of it once."""
        for n in range(self.low, self.high + 1):
            if n >= len(word):
                yield word
                return
            for start in range(len(word) - n + 1):
                yield word[start : start + n]


def tfidf(options: Any) -> Tfidf:
    """The fastest that these options allow."""
    return {"word": WordTfidf, "char_wb": CharTfidf, "char": Tfidf}[options.analyzer](options)


def _vectorizer(options: Any, vocabulary: list[str] | None = None) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer  # slow to import, so not at the top

    arguments = asdict(options) | {"ngram_range": tuple(options.ngram_range), "dtype": np.float32}
    if options.analyzer != "word":  # scikit-learn warns of options that it ignores
        del arguments["token_pattern"], arguments["stop_words"]
    return TfidfVectorizer(**arguments, vocabulary=vocabulary)


def _runs(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where equal numbers begin, and how many there are of each."""
    new = np.ones(len(ordered) + 1, bool)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:-1])
    bounds = np.flatnonzero(new)
    return bounds[:-1], np.diff(bounds)


def _ones(columns: np.ndarray, bounds: np.ndarray, size: int) -> csr_matrix:
    return csr_matrix((np.ones(len(columns), np.float32), columns, bounds), (len(bounds) - 1, size))
