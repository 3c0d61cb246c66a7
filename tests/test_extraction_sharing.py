"""Batches between processes: in memory that is used again, and never too early."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import Dataset, default_collate

from skood import LayerFeatureTransformer
from skood.extraction.batch import Batch
from skood.extraction.feeding import Feeding, fed
from skood.extraction.inputs import Inputs
from skood.extraction.samples import stacked
from skood.extraction.sharing import SMALL, Requests, Sending, stacked_tensors
from skood.store.row_keys import row_keys

N = 96


class Images(Dataset):
    """Images whose batches are large enough to be worth shared memory."""

    def __init__(self, kind="tensor"):
        rng = np.random.default_rng(0)
        self.kind = kind
        self.X = rng.normal(size=(N, 32, 32, 3)).astype(np.float32)

    def __len__(self):
        return N

    def __getitem__(self, number):
        turned = self.X[number].transpose(2, 0, 1)
        if self.kind == "array":
            return turned
        image = torch.from_numpy(turned)
        return image if self.kind == "tensor" else {"pixels": image}


class Keeping(nn.Module):
    """A network that holds on to what it was given."""

    cache_key = "keeping"

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 3)
        self.kept = []

    def forward(self, x):
        self.kept.append(x)
        return self.layer(x[:, 0, 0, :8])


class InPlace(nn.Module):
    """A network that writes to what it was given."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, x):
        return self.layer(x.mul_(2)[:, 0, 0, :8])


def request(number, *in_use):
    return number, frozenset(in_use)


def rooms(sending, asked, n_rooms=1, size=SMALL):
    with sending.answering(asked):
        return [sending.room((size,), torch.uint8) for _ in range(n_rooms)]


# Memory ------------------------------------------------------------------------------


def test_memory_is_used_again_once_nobody_uses_it():
    sending = Sending()
    (first,) = rooms(sending, request(0))
    (second,) = rooms(sending, request(1, 0))
    (third,) = rooms(sending, request(2, 1))
    (fourth,) = rooms(sending, request(3, 2))
    assert first.is_shared()
    assert first.data_ptr() == third.data_ptr() != second.data_ptr()
    assert fourth.data_ptr() == second.data_ptr()


def test_parts_of_one_batch_lie_apart():
    sending = Sending()
    for number in range(2):
        places = {p.data_ptr() for p in rooms(sending, request(number), n_rooms=3)}
        assert len(places) == 3


def test_the_least_memory_that_suffices_is_taken():
    sending = Sending()
    with sending.answering(request(0)):
        large = sending.room((4 * SMALL,), torch.uint8)
        less = sending.room((SMALL, 2), torch.uint8)
    with sending.answering(request(1)):
        assert sending.room((SMALL,), torch.uint8).data_ptr() == less.data_ptr()
        assert sending.room((SMALL,), torch.float32).data_ptr() == large.data_ptr()
        assert sending.room((SMALL - 1,), torch.uint8) is None
    (larger,) = rooms(sending, request(2), size=8 * SMALL)
    (again,) = rooms(sending, request(3), size=8 * SMALL)
    assert len(larger) == 8 * SMALL
    assert again.data_ptr() == larger.data_ptr()


@pytest.mark.parametrize("hold", [lambda t: t[1:2], lambda t: t.numpy(), lambda t: t])
@pytest.mark.parametrize(
    "batch_of",
    [
        lambda tensor: Batch((tensor,), {}, 4),
        lambda tensor: Batch(({"a": tensor},), {}, 4),
        lambda tensor: Batch((), {"a": [tensor]}, 4),
    ],
)
def test_a_batch_is_in_use_while_anybody_holds_a_part_of_it(hold, batch_of):
    requests = Requests(5)
    asked = iter(requests)
    assert next(asked) == request(0)
    assert next(asked) == request(1, 0)  # it is on its way
    tensor = torch.zeros(4, 3)
    requests.came(0, batch_of(tensor))
    requests.came(1, batch_of(torch.zeros(4, 3)))
    assert next(asked) == request(2, 0)
    held = hold(tensor)
    del tensor
    assert next(asked) == request(3, 0, 2)
    del held
    assert next(asked) == request(4, 2, 3)


def test_tensors_are_stacked_as_torch_does_it():
    image, other = torch.rand(3, 4), torch.rand(3, 4).T.contiguous().T
    for parts in (
        [image, other],
        [image.numpy(), other.numpy()],
        [{"a": image, "b": 1}, {"a": other, "b": 2}],
        [(image, 1.0), (other, 2.0)],
        [image, other.double()],
        [1, 2],
    ):
        torch.testing.assert_close(stacked(parts), default_collate(parts))
    assert stacked([image, image[:2]])[1].shape == (2, 4)
    sending, parts = Sending(), [torch.rand(SMALL), torch.rand(SMALL)]
    with sending.answering(request(0)):
        found = stacked_tensors(parts)
        assert found.is_shared()
        assert not stacked_tensors([image, other]).is_shared()
        mixed = stacked_tensors([parts[0], parts[1].double()])
    assert torch.equal(found, torch.stack(parts))
    assert torch.equal(mixed, torch.stack([parts[0], parts[1].double()]))
    assert not stacked_tensors(parts).is_shared()


def test_what_is_no_plain_tensor_is_sent_as_it_is():
    sending = Sending()
    grid = torch.rand(400, 400)
    with sending.answering(request(0)):
        for tensor in (grid.T, grid.to_sparse(), nn.Parameter(grid), grid[:1, :1]):
            assert sending.shared(tensor) is tensor
        moved = sending.shared(grid)
    assert moved.is_shared()
    assert torch.equal(moved, grid)


def test_packed_sequences_are_changed_as_all_else():
    packed = pack_sequence([torch.rand(2, 3), torch.rand(3, 3)], enforce_sorted=False)
    batch = Batch((packed,), {"a": torch.ones(2)}, 2)
    doubled = batch.mapped(lambda tensor: tensor * 2)
    assert torch.equal(doubled.args[0].data, packed.data * 2)
    assert torch.equal(doubled.args[0].sorted_indices, packed.sorted_indices * 2)
    assert torch.equal(doubled.kwargs["a"], torch.full((2,), 2.0))


# Whole passes ------------------------------------------------------------------------


def test_few_pieces_of_memory_carry_all_batches():
    inputs = Inputs(Images())
    inputs.feeding = Feeding(1)
    files = set()
    for loaded in fed(inputs, 8):
        storage = loaded.inputs[slice(None)].args[0].untyped_storage()
        assert storage.is_shared()
        files.add(os.fstat(storage._share_fd_cpu_()[0]).st_ino)
    assert len(files) < N // 8 / 2


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("kind", [Keeping, InPlace])
def test_networks_that_keep_or_change_their_input(tmp_path, kind, cached):
    torch.manual_seed(0)
    network = kind().eval()
    cache = tmp_path / "a" if cached else None
    alone = LayerFeatureTransformer(network, ["layer"], batch_size=8)
    expected = np.asarray(alone.fit_transform(Images()))
    fed_by = LayerFeatureTransformer(
        network, ["layer"], batch_size=8, num_workers=2, cache=cache
    ).fit(Images())
    getattr(network, "kept", []).clear()
    np.testing.assert_allclose(np.asarray(fed_by.transform(Images())), expected)
    if kind is Keeping:
        kept = torch.cat(network.kept)
        assert len(kept) == N - 2 * cached  # fit has been there
        assert torch.equal(kept, torch.stack([*Images()])[-len(kept) :])


def test_a_batch_is_given_away_once():
    inputs = Inputs(Images())
    inputs.feeding = Feeding(1)
    held = next(iter(fed(inputs, 8))).inputs
    batch = held[slice(None)]
    assert held[slice(None)] is batch
    assert held.take(np.array([1, 3])).gives_away(batch)
    part = held.take(np.arange(8))
    assert not held.is_fed
    assert part[slice(None)] is batch
    assert part.gives_away(batch)
    batch.args[0].zero_()
    expected = torch.stack([Images()[n] for n in range(8)])
    for again in (held, part):
        assert torch.equal(again[slice(None)].args[0], expected)


@pytest.mark.parametrize("kind", ["tensor", "array", "mapping"])
def test_keys_are_those_of_the_rows_as_they_were_given(kind):
    data = Images(kind)
    inputs = Inputs(data)
    inputs.feeding = Feeding(1)
    keys = np.concatenate([loaded.keys for loaded in fed(inputs, 32)])
    np.testing.assert_array_equal(keys, row_keys([*data]))


def test_keys_are_those_of_a_type_that_the_batch_has_not():
    class Mixed(Images):
        def __getitem__(self, number):
            image = super().__getitem__(number)
            return image.double() if number == 5 else image

    inputs = Inputs(Mixed())
    inputs.feeding = Feeding(1)
    keys = np.concatenate([loaded.keys for loaded in fed(inputs, 32)])
    np.testing.assert_array_equal(keys, row_keys([*Mixed()]))
