"""Which token says yes: answers as token ids, read from the rendered chat template."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from srec.errors import VerbalizerError

YES = "Yes."
NO = "No."


def answer_token_ids(
    render: Callable[[], str], encode: Callable[[str], list[int]], answers: Sequence[str] = (YES, NO)
) -> tuple[int, ...]:
    """The first token of each answer in the place where a model writes it.

    `render` gives a chat up to where the assistant begins to write, `encode` turns rendered text into token ids.
    Looking an answer up alone can give another token than after the template's last one (`Yes` and `▁Yes`), so it is
    not done.

    Raises:
        VerbalizerError: two answers begin with the same token, or an answer changes the tokens before it.
    """
    opening = render()
    before = encode(opening)
    ids: list[int] = []
    for answer in answers:
        whole = encode(opening + answer)
        if whole[: len(before)] != before or len(whole) == len(before):
            raise VerbalizerError(
                f"answer {answer!r} melts into the chat template's last token; this model cannot be scored by one token"
            )
        ids.append(whole[len(before)])
    if len(set(ids)) < len(ids):
        raise VerbalizerError(
            f"answers {list(answers)} share their first token in this tokenizer; "
            "this model cannot be scored by one token"
        )
    return tuple(ids)
