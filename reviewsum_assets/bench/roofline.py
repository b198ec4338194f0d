"""How fast chunks could be summarized at best: what one takes, against what the device gives.

The roofline model (Williams, Waterman and Patterson 2009, https://doi.org/10.1145/1498765.1498785):
work ends no sooner than its arithmetic at the device's rate of operations, nor than its traffic at
the memory's bandwidth. What is counted is the least that beam search with a cache needs:

- Source and summary are not padded, and nothing is computed twice.
- All beams of a chunk share its encoder output and what cross-attention makes of it.
- A weight that a batch needs is read once for all of it, at every decoding step anew.
- Activations stay in the processor's caches; norms, softmax, biases, relative positions, embedding
  lookups and the search itself cost nothing beside the matrix products.

An operation is a multiplication or an addition, so a product of an (m, k) and a (k, n) matrix takes
2 m k n. G is 1e9 and M is 1e6.

In the formulas: S tokens in, T tokens out, B beams, N chunks a batch, b bytes a number; d the width
of the model, a that of all attention heads together, f that of the feed-forward network and m its
matrices (2; 3 if gated), V the vocabulary, L the layers of encoder or decoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from reviewsum_assets.bench.device_rates import DeviceRates
from reviewsum_assets.errors import ModelError


@dataclass(frozen=True)
class Dimensions:
    """What of a sequence-to-sequence transformer decides its cost."""

    d_model: int
    attention_width: int
    encoder_layers: int
    decoder_layers: int
    encoder_ffn: int
    decoder_ffn: int
    ffn_matrices: int
    vocabulary: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Dimensions:
        """Read a model's config.json.

        Raises:
            ModelError: it is no Pegasus, BART or T5, or lacks a dimension.
        """
        family = config.get("model_type")
        try:
            if family in ("pegasus", "bart"):
                return cls(
                    d_model=config["d_model"],
                    attention_width=config["d_model"],
                    encoder_layers=config["encoder_layers"],
                    decoder_layers=config["decoder_layers"],
                    encoder_ffn=config["encoder_ffn_dim"],
                    decoder_ffn=config["decoder_ffn_dim"],
                    ffn_matrices=2,
                    vocabulary=config["vocab_size"],
                )
            if family == "t5":
                gated = str(config.get("feed_forward_proj", "relu")).startswith("gated-")
                return cls(
                    d_model=config["d_model"],
                    attention_width=config["num_heads"] * config["d_kv"],
                    encoder_layers=config["num_layers"],
                    decoder_layers=config.get("num_decoder_layers") or config["num_layers"],
                    encoder_ffn=config["d_ff"],
                    decoder_ffn=config["d_ff"],
                    ffn_matrices=3 if gated else 2,
                    vocabulary=config["vocab_size"],
                )
        except KeyError as error:
            raise ModelError(f"the model's config.json has no {error.args[0]}") from error
        raise ModelError(f"a model of type {family!r}; supported are pegasus, bart, t5")

    @property
    def encoder_weights(self) -> int:
        """Numbers that encoding reads: L (4 d a + m d f), for Q, K, V, output and feed-forward."""
        attention = 4 * self.d_model * self.attention_width
        ffn = self.ffn_matrices * self.d_model * self.encoder_ffn
        return self.encoder_layers * (attention + ffn)

    @property
    def source_weights(self) -> int:
        """Numbers that make cross-attention's K and V of the encoder output: L 2 d a."""
        return self.decoder_layers * 2 * self.d_model * self.attention_width

    @property
    def step_weights(self) -> int:
        """Numbers that one decoding step reads: L (6 d a + m d f).

        Self-attention has Q, K, V and output, cross-attention only Q and output: its K and V are
        those of the source.
        """
        attention = 6 * self.d_model * self.attention_width
        ffn = self.ffn_matrices * self.d_model * self.decoder_ffn
        return self.decoder_layers * (attention + ffn)

    @property
    def output_weights(self) -> int:
        """Numbers of the projection onto the vocabulary, read at every step: d V."""
        return self.d_model * self.vocabulary


@dataclass(frozen=True)
class Workload:
    """One chunk's share of a batch; ``tokens_out`` are its decoding steps, end token included."""

    tokens_in: int
    tokens_out: int
    beams: int
    batch: int
    bytes_per_number: int


def encoder_operations(model: Dimensions, work: Workload) -> int:
    """Operations of encoding a chunk: 2 S weights + L 4 S^2 a.

    Every token meets every weight once. Attention multiplies (S, a) queries by keys of the same
    shape, then (S, S) probabilities, head by head, by values: 2 S^2 a each.
    """
    attention = 4 * work.tokens_in**2 * model.attention_width
    return 2 * work.tokens_in * model.encoder_weights + model.encoder_layers * attention


def source_operations(model: Dimensions, work: Workload) -> int:
    """Operations of cross-attention's K and V, made once a chunk: 2 S weights."""
    return 2 * work.tokens_in * model.source_weights


def step_operations(model: Dimensions, work: Workload) -> int:
    """Operations of all decoding steps of all beams: B (2 T weights + L 4 a (T S + T (T + 1) / 2)).

    A step has one query a beam, which costs 2 a for every key and 2 a for every value that it
    meets: S of the source, and at step t the t of the summary so far.
    """
    keys = work.tokens_out * work.tokens_in + _triangle(work.tokens_out)
    attention = model.decoder_layers * 4 * model.attention_width * keys
    return work.beams * (2 * work.tokens_out * model.step_weights + attention)


def output_operations(model: Dimensions, work: Workload) -> int:
    """Operations of the logits of all steps and beams: 2 T B d V."""
    return 2 * work.tokens_out * work.beams * model.output_weights


def operations_per_chunk(model: Dimensions, work: Workload) -> int:
    """All operations of a chunk."""
    return (
        encoder_operations(model, work)
        + source_operations(model, work)
        + step_operations(model, work)
        + output_operations(model, work)
    )


def weight_bytes(model: Dimensions, work: Workload) -> float:
    """Bytes of weights read for a chunk: b (encoder + source + T (step + output)) / N.

    The encoder's are read once a batch, the decoder's once a step, for all chunks and beams.
    """
    once = model.encoder_weights + model.source_weights
    every_step = model.step_weights + model.output_weights
    return work.bytes_per_number * (once + work.tokens_out * every_step) / work.batch


def cache_bytes(model: Dimensions, work: Workload) -> int:
    """Bytes of K and V moved for a chunk: b L 2 a (S (T + 1) + B T (T + 1) / 2).

    Those of the source are written once and read at each of T steps, for all beams together. Those
    of the summary are each beam's own: at step t one position is written and t - 1 are read.
    """
    positions = work.tokens_in * (work.tokens_out + 1) + work.beams * _triangle(work.tokens_out)
    return work.bytes_per_number * model.decoder_layers * 2 * model.attention_width * positions


def logit_bytes(model: Dimensions, work: Workload) -> int:
    """Bytes of logits moved for a chunk, written and read by the search: 2 b T B V."""
    return 2 * work.bytes_per_number * work.tokens_out * work.beams * model.vocabulary


def bytes_per_chunk(model: Dimensions, work: Workload) -> float:
    """All bytes moved between memory and processor for a chunk."""
    return weight_bytes(model, work) + cache_bytes(model, work) + logit_bytes(model, work)


class Roofline(BaseModel):
    """What a chunk takes, what the device gives, and the pace that follows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gflop_per_chunk: float
    mb_per_chunk: float
    device_gflops: float  # a second
    device_gb_per_s: float
    bound_chunks_per_s: float
    bound_by: Literal["arithmetic", "memory"]

    def share_reached(self, chunks_per_s: float) -> float:
        """The share of the bound that a measured pace reaches.

        A model that fits into the processor's caches is not bound by memory as counted here, and
        can come out above 1.
        """
        return chunks_per_s / self.bound_chunks_per_s


def roofline(config: Mapping[str, Any], work: Workload, device: DeviceRates) -> Roofline:
    """The bound on a device's pace: 1 / max(operations / rate, bytes / bandwidth) chunks a second.

    It takes arithmetic and traffic to overlap over the whole of a chunk. Encoding is rich in
    arithmetic and decoding in traffic, so that no engine quite gets there.

    Args:
        config: the model's config.json.
        work: a mean chunk.
        device: measured with the number type and the threads that are to be judged.

    Raises:
        ModelError: the config is of no known family, or lacks a dimension.
    """
    model = Dimensions.from_config(config)
    gflop = operations_per_chunk(model, work) / 1e9
    megabytes = bytes_per_chunk(model, work) / 1e6
    arithmetic_s = gflop / device.gflops
    memory_s = megabytes / 1e3 / device.gb_per_s
    return Roofline(
        gflop_per_chunk=gflop,
        mb_per_chunk=megabytes,
        device_gflops=device.gflops,
        device_gb_per_s=device.gb_per_s,
        bound_chunks_per_s=1 / max(arithmetic_s, memory_s),
        bound_by="arithmetic" if arithmetic_s >= memory_s else "memory",
    )


def _triangle(steps: int) -> int:
    """1 + 2 + ... + steps."""
    return steps * (steps + 1) // 2
