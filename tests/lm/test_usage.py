import contextvars
import threading
from contextlib import suppress

from srec.lm.usage import Usage, at_stage, count_usage, record


def test_what_happens_outside_a_block_is_not_counted():
    record(lm_calls=1)
    with count_usage() as usage:
        pass
    record(lm_calls=1)
    assert usage == Usage()


def test_an_outer_block_counts_what_an_inner_one_does():
    with count_usage() as outer:
        record(lm_calls=1, prompt_tokens=10)
        with count_usage() as inner:
            record(lm_calls=2, output_tokens=5, truncated=1)
    assert (inner.lm_calls, inner.prompt_tokens, inner.output_tokens, inner.truncated) == (2, 0, 5, 1)
    assert (outer.lm_calls, outer.prompt_tokens, outer.output_tokens, outer.truncated) == (3, 10, 5, 1)


def test_a_block_that_fails_is_closed():
    with suppress(ZeroDivisionError), count_usage() as usage:
        1 / 0  # noqa: B018 (the failure is the point)
    record(failures=1)
    assert usage.failures == 0


def test_no_count_is_lost_between_threads():
    def work():
        for _ in range(2000):
            record(lm_calls=1, cache_hits=2, unseen_images=1, failures=1)

    with count_usage() as usage:
        threads = [threading.Thread(target=contextvars.copy_context().run, args=(work,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (usage.lm_calls, usage.cache_hits, usage.unseen_images, usage.failures) == (16000, 32000, 16000, 16000)


def test_a_thread_without_the_context_is_not_counted():
    with count_usage() as usage:
        thread = threading.Thread(target=contextvars.Context().run, args=(lambda: record(lm_calls=1),))
        thread.start()
        thread.join()
    assert usage.lm_calls == 0


def test_counts_and_seconds_inside_a_stage_are_those_of_the_stage_too():
    with count_usage() as usage:
        record(lm_calls=1)
        with at_stage("fusion"):
            record(lm_calls=2, output_tokens=5)
            with at_stage("scoring"):
                record(failures=1)
            record(cache_hits=1)
    assert (usage.lm_calls, usage.failures, usage.cache_hits) == (3, 1, 1)
    fusion, scoring = usage.stages["fusion"], usage.stages["scoring"]
    assert (fusion.lm_calls, fusion.output_tokens, fusion.cache_hits, fusion.failures) == (2, 5, 1, 0)
    assert (scoring.lm_calls, scoring.failures) == (0, 1)
    assert fusion.seconds >= scoring.seconds > 0


def test_a_stage_that_fails_has_its_seconds_and_is_left():
    with count_usage() as usage:
        with suppress(ZeroDivisionError), at_stage("fusion"):
            1 / 0  # noqa: B018 (the failure is the point)
        record(lm_calls=1)
    assert usage.stages["fusion"].seconds > 0
    assert usage.stages["fusion"].lm_calls == 0
