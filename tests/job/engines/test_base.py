from __future__ import annotations

import pytest
import torch

from reviewsum_assets.job.engines.base import is_out_of_memory


def test_a_failed_allocation_is_known_as_such() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "CUDA failed with error out of memory",
        "cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED",
        "CUDNN_STATUS_ALLOC_FAILED when calling cudnnCreate(handle)",
        "mkl_malloc: failed to allocate memory",
    ],
)
def test_the_words_of_gpu_libraries_are_known(text: str) -> None:
    assert is_out_of_memory(RuntimeError(text))


def test_other_errors_are_not_taken_for_it() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(2) @ torch.zeros(3)
    assert not is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("Library libcublas.so.12 is not found"))
