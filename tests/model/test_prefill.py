"""Chunked prefill: whatever the size of a chunk, the outputs of the last tokens and no others."""

import pytest
import torch

from model.prefill import chunked_prefill


@pytest.mark.parametrize("size", [1, 3, 4, 10, 16])
@pytest.mark.parametrize("num_last", [1, 3, 4, 5, 10])
def test_the_last_outputs_are_returned(size: int, num_last: int) -> None:
    tokens = torch.arange(20).reshape(2, 10)
    asked = []

    def forward(chunk: torch.Tensor, n: int) -> torch.Tensor:
        asked.append(chunk)
        return chunk[:, chunk.shape[1] - n :, None].float()

    outputs = chunked_prefill(forward, tokens, size, num_last)
    assert torch.equal(outputs, tokens[:, -num_last:, None].float())
    assert torch.equal(torch.cat(asked, 1), tokens)
