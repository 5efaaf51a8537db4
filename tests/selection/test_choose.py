"""The choice: count, near-duplicates, time, drives, nesting, order, ties, labelled frames."""

import numpy as np
import pytest

from drivetl.coco.records import ImageRecord
from drivetl.convert.leaks import NEAR_BITS, differing_bits
from drivetl.selection.choose import choose
from drivetl.selection.distance import FARTHEST, objects_of
from drivetl.selection.pool import Frame

N = 60


def pool(seed=0, n=N, n_drives=4, step_s=0.5, conditions=lambda number: ()):
    """n frames of drives of different lengths, one every step_s seconds; a fifth are copies of the one before."""
    rng = np.random.default_rng(seed)
    drives = np.sort(rng.integers(0, n_drives, n) ** 2 // n_drives)
    frames, bits, features, scores, labels = [], [], [], [], []
    for number in range(n):
        name = f"d{drives[number]}/{number:03d}.png"
        frames.append(
            Frame(ImageRecord(number + 1, name, 9, 9), f"d{drives[number]}", number * step_s, conditions(number))
        )
        own = rng.choice([-1, 1], 256).astype(np.int8)
        bits.append(bits[-1].copy() if number % 5 == 4 else own)
        count = int(rng.integers(0, 5))
        feature = rng.random((count, 8))
        features.append((feature / np.linalg.norm(feature, axis=1, keepdims=True)).astype(np.float16))
        scores.append(np.sort(rng.random(count))[::-1])
        labels.append(rng.integers(1, 4, count))
    return frames, objects_of(features, scores, labels), np.array(bits), rng.random(n)


def taken(frames, objects, bits, doubts, count, **options):
    return [choice.index for choice in choose(frames, objects, bits, doubts, count, **options).choices]


@pytest.mark.parametrize("seed", range(4))
def test_law_the_first_of_a_larger_choice_are_the_smaller_one(seed):
    some = pool(seed)
    larger = taken(*some, 20)
    assert all(taken(*some, count) == larger[:count] for count in range(20))


@pytest.mark.parametrize("seed", range(4))
def test_law_no_near_duplicates_and_two_seconds_between_frames_of_a_drive(seed):
    frames, objects, bits, doubts = pool(seed)
    chosen = taken(frames, objects, bits, doubts, N)
    apart = differing_bits(bits[chosen], bits[chosen])
    assert (apart[np.triu_indices(len(chosen), 1)] > NEAR_BITS).all()
    for one in chosen:
        for other in chosen:
            if one != other and frames[one].drive == frames[other].drive:
                assert abs(frames[one].time_s - frames[other].time_s) >= 2.0


@pytest.mark.parametrize("seed", range(4))
def test_law_every_frame_is_chosen_or_counted_as_left_out(seed):
    found = choose(*pool(seed), N)
    assert len(found.choices) + found.near + found.close == N and found.near > 0 and found.close > 0
    without_gap = choose(*pool(seed), N, gap_s=0)
    assert without_gap.close == 0 and len(without_gap.choices) + without_gap.near == N


@pytest.mark.parametrize("seed", range(4))
def test_law_drives_take_turns_until_they_run_out(seed):
    frames, objects, bits, doubts = pool(seed)
    everything = taken(frames, objects, bits, doubts, N)
    limits = {drive: sum(frames[i].drive == drive for i in everything) for drive in {f.drive for f in frames}}
    for count in range(1, len(everything) + 1):
        counts = dict.fromkeys(limits, 0)
        for index in everything[:count]:
            counts[frames[index].drive] += 1
        assert all(counts[drive] in (limits[drive], max(counts.values()), max(counts.values()) - 1) for drive in limits)


@pytest.mark.parametrize("seed", range(4))
def test_law_the_order_of_the_frames_does_not_matter(seed):
    frames, objects, bits, doubts = pool(seed)
    order = np.random.default_rng(seed).permutation(N)
    shuffled = type(objects)(objects.features[order], objects.scores[order], objects.labels[order])
    again = taken([frames[i] for i in order], shuffled, bits[order], doubts[order], 20)
    assert [int(order[index]) for index in again] == taken(frames, objects, bits, doubts, 20)


def test_law_the_seed_orders_equally_good_frames_only():
    frames, objects, bits, doubts = pool()
    assert taken(frames, objects, bits, doubts, 20) == taken(frames, objects, bits, doubts, 20, seed=7)
    nothing = np.zeros(N)
    firsts = {taken(frames, objects, bits, nothing, 1, seed=seed)[0] for seed in range(20)}
    assert len(firsts) > 1
    assert taken(frames, objects, bits, nothing, 9, seed=3) == taken(frames, objects, bits, nothing, 9, seed=3)


def test_oracle_uncertainty_times_distance_by_hand():
    """Four frames of one drive without times: a, its twin b, an unlike c that is less uncertain, and d without objects.

    a first (0.9); then b gains 0.8 * 0 and c 0.5 * (1 - cos 90 degrees) = 0.5; of b and d, which gain nothing, d is
    farther from the chosen ones.
    """
    frames = [Frame(ImageRecord(n + 1, f"{name}.png", 9, 9), "") for n, name in enumerate("abcd")]
    a, c = np.array([[1, 0]], np.float16), np.array([[0, 1]], np.float16)
    objects = objects_of([a, a, c, a[:0]], [[1], [1], [1], []], [[1], [1], [1], []])
    bits = np.random.default_rng(0).choice([-1, 1], (4, 256))
    found = choose(frames, objects, bits, np.array([0.9, 0.8, 0.5, 0.0]), 4).choices
    assert [choice.index for choice in found] == [0, 2, 3, 1]
    assert [choice.distance for choice in found] == pytest.approx([FARTHEST, 1.0, FARTHEST, 0.0], abs=2e-3)
    assert [choice.is_far for choice in found] == [False, False, True, False]


def test_conditions_take_turns_where_frames_are_equally_good():
    frames, objects, bits, _ = pool(n_drives=1, conditions=lambda n: (("timeofday", "night" if n < 3 else "day"),))
    chosen = choose(frames, objects, bits, np.ones(N), 4, gap_s=0).choices
    words = [frames[choice.index].conditions[0][1] for choice in chosen]
    assert set(words[:2]) == {"night", "day"} and chosen[0].first_of_conditions and chosen[1].first_of_conditions
    assert not any(choice.alone_in_drive for choice in chosen)


def test_law_nothing_near_a_labelled_frame_is_chosen():
    frames, objects, bits, doubts = pool()
    labelled = [frames[10]]
    chosen = taken(
        frames, objects, bits, doubts, N, labelled=labelled, labelled_fingerprints=bits[[20]], nearest=np.ones(N)
    )
    assert (differing_bits(bits[chosen], bits[[20]]) > NEAR_BITS).all() and 20 not in chosen
    same = [i for i in chosen if frames[i].drive == frames[10].drive]
    assert same and all(abs(frames[i].time_s - frames[10].time_s) >= 2 for i in same)


def test_law_what_resembles_a_labelled_frame_comes_later():
    frames, objects, bits, _ = pool(n_drives=1)
    away = np.full(N, 0.01)
    away[33] = 1.0
    assert taken(frames, objects, bits, np.ones(N), 1, nearest=away) == [33]


def test_nothing_to_choose_from():
    frames, objects, bits, doubts = pool(n=1)
    assert taken(frames, objects, bits, doubts, 5) == [0] and taken(frames, objects, bits, doubts, 0) == []
    assert taken([], objects_of([], [], []), np.zeros((0, 256)), np.zeros(0), 5) == []
