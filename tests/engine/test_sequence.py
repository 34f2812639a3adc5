"""Sequences of KV that grow, wait for loads and forget."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest
import torch

from ctxpress.engine.sequence import SequenceKV
from ctxpress.errors import CodecError


def kv(n: int, seed: int) -> torch.Tensor:
    return torch.randn(2, 3, n, 4, generator=torch.Generator().manual_seed(seed))


def test_what_is_appended_is_read_back_in_order() -> None:
    sequence = SequenceKV(2)
    pieces = [kv(n, seed) for seed, n in enumerate((5, 1, 200, 1))]
    for piece in pieces:
        sequence.append(piece, piece + 1)
    keys, values = sequence.slice(0, sequence.n_tokens)
    assert torch.equal(keys, torch.cat(pieces, dim=2))
    assert torch.equal(values, torch.cat(pieces, dim=2) + 1)
    assert torch.equal(sequence.slice(4, 7)[0], torch.cat(pieces, dim=2)[:, :, 4:7])


def test_layers_are_waited_for_only_when_they_are_read() -> None:
    sequence = SequenceKV(2)
    sequence.append(kv(2, 0), kv(2, 0))
    late = kv(3, 1)
    loads: list[Future[tuple[torch.Tensor, torch.Tensor]]] = [Future(), Future()]
    sequence.append_later(3, loads)
    assert sequence.n_tokens == 5
    loads[0].set_result((late[0], late[0]))
    keys, _ = sequence.extend(0, kv(1, 2)[0], kv(1, 2)[0])  # layer 1 is still on its way
    assert torch.equal(keys[:, 2:5], late[0])
    assert torch.equal(keys[:, 5:], kv(1, 2)[0])
    threading.Timer(0.05, loads[1].set_result, [(late[1], late[1])]).start()
    assert torch.equal(sequence.layer(1)[0][:, 2:5], late[1])


def test_a_load_that_fails_says_so_where_it_is_needed() -> None:
    sequence = SequenceKV(1)
    load: Future[tuple[torch.Tensor, torch.Tensor]] = Future()
    sequence.append_later(3, [load])
    load.set_exception(CodecError("damaged"))
    with pytest.raises(CodecError, match="damaged"):
        sequence.layer(0)


def test_a_load_of_another_length_is_refused() -> None:
    sequence = SequenceKV(1)
    load: Future[tuple[torch.Tensor, torch.Tensor]] = Future()
    sequence.append_later(3, [load])
    load.set_result((kv(2, 0)[0], kv(2, 0)[0]))
    with pytest.raises(CodecError, match="3 tokens were announced"):
        sequence.layer(0)


def test_truncated_tokens_are_written_over() -> None:
    sequence = SequenceKV(2)
    sequence.append(kv(9, 0), kv(9, 0))
    sequence.truncate(4)
    sequence.append(kv(2, 1), kv(2, 1))
    assert torch.equal(sequence.slice(0, 6)[0], torch.cat([kv(9, 0)[:, :, :4], kv(2, 1)], dim=2))


def test_an_empty_sequence_has_nothing_to_show() -> None:
    assert SequenceKV(3).n_tokens == 0
    assert SequenceKV(3).size_bytes == 0
    with pytest.raises(ValueError, match="no tokens yet"):
        SequenceKV(3).layer(0)
