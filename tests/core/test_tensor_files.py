"""Tensor files: round trip, shared storage, and a checksum that notices every altered byte."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lmm4rec.core.errors import CheckpointError
from lmm4rec.core.tensor_files import read_tensors, save_tensors


def test_tensors_and_metadata_come_back_and_others_can_read_the_file(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "whole": whole, "same": whole, "part": whole[1:], "turned": whole.T, "none": torch.empty(0, 2),
        "half": whole.bfloat16(), "flags": whole > 5,
    }  # fmt: skip
    save_tensors(tmp_path / "a.safetensors", tensors, {"facts": '{"epoch": 3}'})
    read, metadata = read_tensors(tmp_path / "a.safetensors")
    assert metadata == {"facts": '{"epoch": 3}'}
    for name, tensor in tensors.items():
        assert torch.equal(read[name], tensor)
        assert torch.equal(load_file(tmp_path / "a.safetensors")[name], tensor)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_every_altered_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"a": torch.arange(4.0), "b": torch.tensor([7])}, {"facts": "abc"})
    good = path.read_bytes()
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        try:
            tensors, metadata = read_tensors(path)
        except CheckpointError as error:
            assert str(path) in str(error)  # noqa: PT017 - some spaces of the header may change
        else:
            assert (list(tensors), metadata["facts"]) == (["a", "b"], "abc")
            assert tensors["a"].tolist() == [0, 1, 2, 3]
            assert tensors["b"].tolist() == [7]
    path.write_bytes(good[:-1])
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_tensors(path)


def test_a_file_without_a_checksum_is_read(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors", {"format": "pt"})
    tensors, metadata = read_tensors(tmp_path / "a.safetensors")
    assert tensors["a"].tolist() == [1, 1]
    assert metadata == {"format": "pt"}
