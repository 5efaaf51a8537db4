"""Laws of the batches of several datasets: exact shares, whole epochs, the same batches for any number of processes."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetl.data.sampling import EpochBatches, Extra, epoch_steps, rates_of, stream_of

shares_of_one = st.integers(1, 90).map(lambda percent: percent / 100)
small = st.integers(1, 9)


def epochs(batches, count=3):
    """The batches of the first epochs, each a list of items."""
    result = []
    for epoch in range(count):
        batches.epoch = epoch
        result.append(list(batches))
    return result


def images_of(epoch, n_images):
    return [index for batch in epoch for _, index in batch if index < n_images]


@given(shares_of_one, st.integers(0, 10**9))
def test_law_of_the_first_n_images_the_extra_has_its_share_rounded_down(share, position):
    stream, number = stream_of(position, rates_of([share]))
    exact = Fraction(str(share))
    assert math.floor((position + 1) * exact) - math.floor(position * exact) == stream
    assert number == (math.floor(position * exact) if stream else position - math.floor(position * exact))


@given(st.lists(st.integers(1, 30), min_size=2, max_size=3), st.integers(1, 300))
def test_law_several_extras_have_their_shares_to_within_one_and_number_their_images(percents, count):
    shares = [percent / 100 for percent in percents]
    seen = [0] * (len(shares) + 1)
    for position in range(count):
        stream, number = stream_of(position, rates_of(shares))
        assert number == seen[stream]
        seen[stream] += 1
    assert all(abs(found - count * share) < 2 for found, share in zip(seen[1:], shares, strict=True))


def test_a_quarter_of_a_batch_of_four_is_one_image_of_each_and_three_tenths_alternate():
    assert [sum(index >= 10 for _, index in batch) for batch in EpochBatches(10, 4, 0, extras=[Extra(5, 0.25)])] == [
        1
    ] * 4
    counts = [sum(index >= 50 for _, index in batch) for batch in EpochBatches(50, 4, 0, extras=[Extra(5, 0.3)])]
    assert counts[:10] == [1, 1, 1, 1, 2, 1, 1, 1, 1, 2] and sum(counts[:10]) == 12


@given(st.integers(1, 40), st.integers(1, 7), small, small, shares_of_one)
@settings(max_examples=60)
def test_law_every_epoch_shows_every_image_and_every_pass_every_extra_image(n_images, n_extra, batch, world, share):
    whole = epochs(EpochBatches(n_images, batch * world, 3, extras=[Extra(n_extra, share)]))
    assert {len(epoch) for epoch in whole} == {epoch_steps(n_images, batch * world, [share])}
    assert all(set(images_of(epoch, n_images)) == set(range(n_images)) for epoch in whole)
    extra = [item for epoch in whole for batch_ in epoch for item in batch_ if item[1] >= n_images]
    for turn in range(len(extra) // n_extra):
        shown = extra[turn * n_extra : (turn + 1) * n_extra]
        assert sorted(shown) == [(turn, n_images + index) for index in range(n_extra)]


@given(st.integers(1, 40), small, st.integers(1, 4), st.lists(st.integers(1, 30), max_size=2))
@settings(max_examples=60)
def test_law_processes_see_the_batches_of_one_process(n_images, batch, world, percents):
    extras = [Extra(5 + number, percent / 100) for number, percent in enumerate(percents)]
    one = epochs(EpochBatches(n_images, batch * world, 7, extras=extras))
    ranks = [epochs(EpochBatches(n_images, batch, 7, extras=extras, rank=r, world=world)) for r in range(world)]
    joined = [
        [[item for rank in ranks for item in rank[epoch][step]] for step in range(len(one[epoch]))]
        for epoch in range(3)
    ]
    assert joined == one


@given(st.integers(1, 40), small, st.integers(1, 4), st.integers(0, 2**40))
@settings(max_examples=60)
def test_law_without_extras_an_epoch_is_a_permutation_filled_from_its_beginning(n_images, batch, world, seed):
    for rank in range(world):
        batches = EpochBatches(n_images, batch, seed, rank=rank, world=world)
        assert len(batches) == -(-n_images // (batch * world))
        batches.epoch = 2
        order = np.resize(np.random.default_rng([seed, 2]).permutation(n_images), len(batches) * batch * world)
        expected = order.reshape(len(batches), world, batch)[:, rank]
        assert [[index for _, index in step] for step in batches] == expected.tolist()


@pytest.mark.parametrize("first", [1, 3])
def test_a_resumed_epoch_continues_where_it_stopped_with_its_extras(first):
    batches = EpochBatches(20, 4, 0, extras=[Extra(7, 0.3)])
    whole = epochs(batches)[2]
    batches.first = first
    assert list(batches) == whole[first:]
