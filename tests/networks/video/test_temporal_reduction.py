import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_reid.networks.video.network import max_of_neighboring_frames, require_halvings


def test_the_stronger_of_two_neighboring_frames_stays():
    clips = torch.tensor([1.0, 5.0, 7.0, 2.0, -3.0, -4.0]).reshape(1, 6, 1, 1, 1)
    assert max_of_neighboring_frames(clips).flatten().tolist() == [5, 7, -3]


@given(batch=st.integers(1, 3), pairs=st.integers(0, 4), seed=st.integers(0, 99))
def test_each_element_is_that_of_one_of_its_two_frames(batch, pairs, seed):
    clips = torch.randn(batch, 2 * pairs, 2, 3, 1, generator=torch.Generator().manual_seed(seed))
    halved = max_of_neighboring_frames(clips)
    assert halved.shape == (batch, pairs, 2, 3, 1)
    for pair in range(pairs):
        assert torch.equal(halved[:, pair], torch.stack([clips[:, 2 * pair], clips[:, 2 * pair + 1]]).amax(0))


def test_gradients_reach_the_frame_that_was_stronger():
    clips = torch.tensor([1.0, 5.0, 7.0, 2.0]).reshape(1, 4, 1, 1, 1).requires_grad_()
    max_of_neighboring_frames(clips).sum().backward()
    assert clips.grad.flatten().tolist() == [0, 1, 1, 0]


def test_channels_last_frames_stay_channels_last():
    frames = torch.randn(8, 4, 3, 2).contiguous(memory_format=torch.channels_last)
    halved = max_of_neighboring_frames(frames.unflatten(0, (2, 4)))
    assert halved.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_an_odd_number_of_frames_is_refused():
    with pytest.raises(ValueError, match="3 frames cannot be halved"):
        max_of_neighboring_frames(torch.zeros(1, 3, 1, 1, 1))


def test_a_clip_length_that_cannot_be_halved_so_often_is_refused_with_those_that_can():
    require_halvings(8, 3)
    require_halvings(5, 0)
    with pytest.raises(ValueError, match="clips of 6 frames cannot be halved 2 times: sample a multiple of 4 frames"):
        require_halvings(6, 2)
