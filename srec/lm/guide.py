"""Answers that follow a JSON schema while they are written, and that always end.

llguidance says which tokens may come next. When an answer nears its last allowed token, `Guide` closes open strings
and lists as soon as the grammar lets it, so that the answer is short but whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import llguidance
import llguidance.hf
import numpy as np
import torch

from srec.errors import ModelError

CLOSING_TEXT = ('"',)
CLOSING_STRUCTURE = ("]", "]}", "}")
LANDING_TOKENS_PER_FIELD = 12


class Grammar:
    """Compiles schemas for one tokenizer."""

    def __init__(self, tokenizer: Any, *, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self._tokenizer = llguidance.hf.from_tokenizer(tokenizer, n_vocab=vocabulary)
        self._decode = tokenizer.decode
        self._closing = {
            inside: [token[0] for text in texts if len(token := tokenizer.encode(text, add_special_tokens=False)) == 1]
            for inside, texts in ((True, CLOSING_TEXT), (False, CLOSING_STRUCTURE))
        }

    def guide(self, response_format: dict[str, Any], *, max_tokens: int) -> Guide:
        """A guide for one answer.

        Raises:
            ModelError: the schema cannot be enforced.
        """
        schema = response_format.get("schema", {"type": "object"})
        grammar = llguidance.LLMatcher.grammar_from_json_schema(
            json.dumps(schema), defaults={"whitespace_flexible": False}
        )
        matcher = llguidance.LLMatcher(self._tokenizer, grammar)
        if matcher.is_error():
            raise ModelError(f"this JSON schema cannot be enforced while decoding: {matcher.get_error()}")
        reserve = LANDING_TOKENS_PER_FIELD * max(1, len(schema.get("properties", {})))
        return Guide(
            matcher,
            closing=self._closing,
            decode=self._decode,
            land_after=max_tokens - reserve,
            vocabulary=self._vocabulary,
        )


class Guide:
    """The grammar state of one answer under way; `closing` has the tokens that close a string (True) or the rest."""

    def __init__(
        self,
        matcher: Any,
        *,
        closing: dict[bool, list[int]],
        decode: Callable[[list[int]], str],
        land_after: int,
        vocabulary: int,
    ) -> None:
        self._matcher = matcher
        self._closing = {inside: torch.tensor(tokens, dtype=torch.long) for inside, tokens in closing.items()}
        self._decode = decode
        self._inside_string = False
        self._land_after = land_after
        self._bits = np.zeros((vocabulary + 31) // 32, dtype=np.int32)
        self._vocabulary = vocabulary
        self._written = 0
        self.landed = False

    def allowed(self) -> torch.Tensor:
        """Which tokens may come next, bool [vocabulary]."""
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        bits = np.unpackbits(self._bits.view(np.uint8), bitorder="little")[: self._vocabulary]
        mask = torch.from_numpy(bits.astype(bool))
        tokens = self._closing[self._inside_string]
        if self._written >= self._land_after and bool(mask[tokens].any()):
            self.landed = True
            closing = torch.zeros_like(mask)
            closing[tokens] = mask[tokens]
            return closing
        return mask

    def wrote(self, token: int) -> None:
        """Advance by the token that was chosen."""
        self._matcher.consume_token(token)
        self._written += 1
        quotes = self._decode([token]).replace('\\"', "").count('"')
        self._inside_string ^= quotes % 2 == 1

    @property
    def may_end(self) -> bool:
        """Whether the answer is whole as it stands."""
        return bool(self._matcher.is_accepting())

    @property
    def ended(self) -> bool:
        """Whether nothing may follow."""
        return bool(self._matcher.is_stopped())
