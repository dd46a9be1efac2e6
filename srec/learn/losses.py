"""What is learnt: the answers' tokens, and the order of one user's candidates."""

from __future__ import annotations

import torch
from torch.nn import functional


def answer_loss(
    logits: torch.Tensor, targets: torch.Tensor, rows: torch.Tensor, coefficients: torch.Tensor
) -> torch.Tensor:
    """Sum over rows of coefficient times the mean cross-entropy of the row's tokens.

    `logits` float[tokens, vocabulary] and `targets` int[tokens] are those of the answers' positions alone, `rows`
    int[tokens] says whose they are, `coefficients` is float[rows]. A row's mean, so that a verdict of three tokens
    counts like a text.
    """
    each = functional.cross_entropy(logits, targets, reduction="none")
    counts = torch.bincount(rows, minlength=len(coefficients)).clamp(min=1)
    return (each * (coefficients / counts)[rows]).sum()


def list_loss(
    margins: torch.Tensor, lists: torch.Tensor, liked: torch.Tensor, coefficients: torch.Tensor
) -> torch.Tensor:
    """Sum over lists of coefficient times the mean, over those liked, of -log softmax of the margins.

    `margins` float[rows] are logit Yes - logit No, `lists` int[rows] the row's list or -1, `liked` bool[rows],
    `coefficients` float[lists]. This is ListNet's top-one loss (Cao et al. 2007) for labels of 0 and 1.
    """
    total = margins.sum() * 0.0  # a tensor with a gradient even where there is no list
    for number, coefficient in enumerate(coefficients):
        own = lists == number
        total = total - coefficient * margins[own].log_softmax(0)[liked[own]].mean()
    return total
